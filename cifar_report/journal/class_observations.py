"""What the answers to each class show, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cifar_report.experiments.schema import CLASSES
from cifar_report.formatting import grouped, listing, p_text, percent, points
from cifar_report.journal.results import Journal, Result, unlike
from cifar_report.journal.statistics import SIGNIFICANCE, holm, mcnemar
from cifar_report.records.record import RunRecord


def classes_changed(results: Sequence[Result], journal: Journal) -> tuple[list[str], list[str]]:
    """Which classes gained and lost most, of those whose change a test shows; and whose classes show it."""
    found: list[tuple[str, str]] = []  # against what, and what changed
    shown_by: list[str] = []
    unchanged: list[str] = []
    for result in results:
        base = journal.complete.get(result.entry.builds_on or "")
        if base is None or result.entry.id not in journal.comparisons:
            continue
        seed = min({run.seed for run in result.runs} & {run.seed for run in base.runs})  # compared, so there is one
        run, other = (next(run for run in r.runs if run.seed == seed) for r in (result, base))
        changes = None if unlike(other, run, paired=False) else _class_changes(result, run, base, other)
        if changes is None:
            continue
        here, there = (_name(r, of) for r, of in ((run, result), (other, base)))
        told = [
            f"{word} most in {change.name} ({points(change.difference, 1)} points, {p_text(change.p)})"
            for word, change in (
                ("gains", max(changes, key=lambda change: change.difference)),
                ("loses", min(changes, key=lambda change: change.difference)),
            )
            if change.p < SIGNIFICANCE and (change.difference > 0) == (word == "gains")
        ]
        if told:
            fewest, most = (f"{end(change.images for change in changes):,}" for end in (min, max))
            images = most if fewest == most else f"{fewest} to {most}"
            found.append((f"{there}, over {images} images a class", f"{here} {' and '.join(told)}"))
        elif journal.comparisons[result.entry.id].changed:
            unchanged.append(f"{here} against {there}")
        if run is result.runs[0]:  # whose classes the report shows
            shown_by.append(result.entry.id)
    sentences = [f"Against {base}: {'; '.join(changed)}." for base, changed in grouped(found).items()]
    if unchanged:
        sentences.append(f"No class is shown to gain or lose by {listing(unchanged)}.")
    if sentences:
        sentences.append("(McNemar over the images of a class, Holm-adjusted over the classes.)")
    return sentences, shown_by


@dataclass(frozen=True)
class _ClassChange:
    name: str
    difference: float
    images: int
    p: float


def _class_changes(result: Result, run: RunRecord, base: Result, other: RunRecord) -> list[_ClassChange] | None:
    """The change of each class's accuracy over the images that both were tested on."""
    here, there = result.predictions(run), base.predictions(other)
    if here is None or there is None or run.data is None:
        return None
    _, i, j = np.intersect1d(here.index, there.index, return_indices=True)
    labels, after, before = here.labels[i], here.correct[i], there.correct[j]
    present = [(k, name) for k, name in enumerate(CLASSES[run.data.name]) if (labels == k).any()]
    p_values = holm([mcnemar(before[labels == k], after[labels == k]) for k, _ in present])
    return [
        _ClassChange(
            name,
            float(after[labels == k].mean() - before[labels == k].mean()),
            int((labels == k).sum()),
            p,
        )
        for (k, name), p in zip(present, p_values, strict=True)
    ]


def confused(results: Sequence[Result]) -> tuple[list[str], list[str]]:
    """The two classes that are most often taken for each other; and whose classes show it."""
    pairs: dict[str, list[str]] = {}
    shown_by: list[str] = []
    for result in results:
        run = result.runs[0]
        predictions = result.predictions(run)
        if predictions is None or run.data is None:
            continue
        counts, names = predictions.confusion_matrix(), CLASSES[run.data.name]
        both = np.triu(counts + counts.T, k=1)
        if both.max() == 0:
            continue
        one, two = np.unravel_index(both.argmax(), both.shape)
        share = both.max() / max(1, int((~predictions.correct).sum()))
        told = f"{counts[one, two]:,} and {counts[two, one]:,} images, {percent(share)} of all its mistakes"
        pairs.setdefault(f"{names[one]} and {names[two]}", []).append(f"{_name(run, result)} ({told})")
        shown_by.append(result.entry.id)
    sentences = [f"The pair most often confused is {pair} in {listing(told)}." for pair, told in pairs.items()]
    return sentences, shown_by


def _name(run: RunRecord, result: Result) -> str:
    return f"{run.experiment} (seed {run.seed})" if len(result.runs) > 1 else run.experiment
