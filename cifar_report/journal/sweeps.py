"""Sweeps on record: an experiment's accuracy against one of its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cifar_report.experiments.schema import differences
from cifar_report.experiments.sweep import swept_parameters
from cifar_report.formatting import grouped
from cifar_report.journal.budget import parameters_of
from cifar_report.journal.journal import Journal, Result


@dataclass(frozen=True)
class Sweep:
    """Experiments that differ in one parameter; `points`: its values with the results, in order."""

    base: str
    parameter: str
    points: list[tuple[Any, Result]]


def sweeps(journal: Journal, family: str) -> list[Sweep]:
    """The family's sweeps of one number; the experiment that they vary is a point where it did the same otherwise."""
    complete = {r.entry.id: r for r in journal.family_results(family) if r.runs}
    varied = {name: swept_parameters(name) for name in complete}
    members = grouped(((base, names[0]), name) for name, (base, names) in varied.items() if len(names) == 1)
    found = []
    for (base, parameter), names in members.items():
        settings = {name: parameters_of(complete[name].runs[0]) for name in [*names, base] if name in complete}
        points = [
            (own[parameter], complete[name])
            for name, own in settings.items()
            if not differences(settings[names[0]], own, ignored=("experiment", "seed", "fold", parameter))
        ]
        if len(points) > 1 and all(type(value) in (int, float) for value, _ in points):
            found.append(Sweep(base, parameter, sorted(points, key=lambda point: point[0])))
    return found
