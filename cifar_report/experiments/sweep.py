"""Sweeps: several values of a parameter, each an experiment of its own, named after the one that it varies."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import PLACE_PARAMETERS, Experiment, shown


def combinations(overrides: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What overrides mean, one item a combination: the values that a sweep set, and all overrides with them.

    `lr=0.001,0.003` are two values, `augment=[crop],[crop,horizontal_flip]` two lists; several such make a grid.
    `validation=fold folds=5` without `fold` means all five folds, which are one experiment.
    """
    choices = {name: _values(name, value) for name, value in overrides.items()}
    swept = [name for name, values in choices.items() if len(values) > 1 and name != "fold"]
    grid = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    return [({name: given[name] for name in swept}, given | fold) for given in grid for fold in _folds(given)]


def sweep_name(base: str, values: Mapping[str, Any]) -> str:
    """The experiment of one combination of values: `EXP003-LR-0_02`; of none `base`. Refuses what is too long."""
    pairs = ((name, re.sub(r"\W+", "_", shown(value)).strip("_") or "none") for name, value in values.items())
    name = "-".join([base, *map("-".join, pairs)]).upper()
    if len(name) > 64:
        raise RequestError(f"too many parameters are swept together: {', '.join(values)}")
    return name


def split_sweep_name(experiment: str) -> tuple[str, list[str]]:
    """The experiment that a sweep's experiment varies, and the parameters that it sets: `EXP003`, `["lr"]`."""
    base, *words = experiment.split("-")
    known = Experiment.model_fields.keys() - PLACE_PARAMETERS
    return base, [word.lower() for word in words[::2] if word.lower() in known]


def _values(name: str, value: Any) -> list[Any]:
    if not isinstance(value, str) or name in PLACE_PARAMETERS:
        return [value]
    parts = [part.strip() for part in re.split(r",(?![^\[]*\])", value)]
    several = all(part.startswith("[") for part in parts) if name == "augment" else all(parts)
    return list(dict.fromkeys(parts)) if several else [value]


def _folds(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    folds = str(given.get("folds", ""))
    if given.get("validation") != "fold" or "fold" in given or not folds.isdecimal():
        return [{}]
    return [{"fold": fold} for fold in range(int(folds) or 1)]  # of none the schema has a sentence
