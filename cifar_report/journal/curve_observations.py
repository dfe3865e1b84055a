"""What learning curves show, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cifar_report.formatting import grouped, listing, percent, points
from cifar_report.journal.learning_curves import OVERFITTING_RISE, PLATEAU, STEADY, Learning
from cifar_report.journal.results import Result, of_equal_work


def overfitting(curves: Sequence[Learning]) -> list[str]:
    """Whose validation loss rises while the training loss falls, from which epoch and by how much."""
    sentences = []
    overfit = [c for c in curves if c.course == "overfits"]
    if len(overfit) == 1:
        (c,) = overfit
        sentences.append(
            f"{c.name} overfits from epoch {c.best.epoch + 1}: its validation loss is lowest at epoch {c.best.epoch} "
            f"({c.best.validation_loss:.2f}) and ends {percent(c.rise)} higher ({c.last.validation_loss:.2f}), while "
            f"the training loss falls to {c.last.train_loss:.2f}; its validation accuracy changes by "
            f"{points(_later_gain(c))} points from there to the end."
        )
    elif overfit:
        sentences.append(
            f"{listing(c.name for c in overfit)} overfit: their validation losses are lowest at epoch "
            f"{_span({c.name: c.best.epoch for c in overfit}, str)} and end "
            f"{_span({c.name: c.rise for c in overfit}, percent)} higher, while the training losses fall on; "
            f"validation accuracy changes by {_span({c.name: _later_gain(c) for c in overfit}, points)} points from "
            "there to the end."
        )
    for c in curves:
        if c.course == "rises":
            why = "only in the last epoch, which may be noise"
            if c.last.train_loss >= c.best.train_loss:
                ends = f"{c.last.train_loss:.2f}; {c.best.train_loss:.2f}"
                why = f"its training loss ends no lower than it was there ({ends})"
            sentences.append(
                f"The validation loss of {c.name} ends {percent(c.rise)} above its lowest "
                f"({c.last.validation_loss:.2f}; {c.best.validation_loss:.2f} at epoch {c.best.epoch}), but {why}."
            )
    for epochs, names in grouped((len(c.epochs), c.name) for c in curves if c.course == "falls").items():
        sentences.append(
            f"{listing(names)} {_verb('does', names)} not overfit within {epochs} epochs: the validation loss ends no "
            f"more than {percent(OVERFITTING_RISE)} above its lowest."
        )
    return sentences


def _later_gain(c: Learning) -> float:
    return c.last.validation_accuracy - c.best.validation_accuracy


def plateau(curves: Sequence[Learning]) -> list[str]:
    """Where the validation accuracy flattens."""
    long = [c for c in curves if len(c.epochs) > 3]
    sentences = [
        f"{c.name} gains no more than a point of validation accuracy after epoch {c.flat_after} of {len(c.epochs)}: "
        f"{percent(c.epochs[c.flat_after - 1].validation_accuracy, 1)} there, "
        f"{percent(max(e.validation_accuracy for e in c.epochs), 1)} at its highest."
        for c in long
        if c.flat_after
    ]
    if len(sentences) > 1:
        flat = {c.name: c.flat_after for c in long if c.flat_after}
        by_epoch = sorted(grouped((epoch, name) for name, epoch in flat.items()).items())
        told = listing(f"{epoch} ({listing(names)})" for epoch, names in by_epoch)
        sentences = [f"No more than a point of validation accuracy is gained after epoch {told}."]
    late = [c for c in long if not c.flat_after]
    rising = [c.name for c in late if c.last.validation_accuracy >= c.highest.validation_accuracy - PLATEAU]
    if rising:
        it = "it still gains" if len(rising) == 1 else "they still gain"
        sentences.append(f"{listing(rising)} {_verb('has', rising)} not flattened: {it} in the last epochs.")
    sentences += [
        f"{c.name} is highest at epoch {c.highest.epoch} of {len(c.epochs)} "
        f"({percent(c.highest.validation_accuracy, 1)}) and ends "
        f"{points(c.highest.validation_accuracy - c.last.validation_accuracy, 1).lstrip('+')} points lower."
        for c in late
        if c.name not in rising
    ]
    return sentences


def generalisation_gap(curves: Sequence[Learning]) -> list[str]:
    """How much better the training images are told apart than the others."""
    long = [c for c in curves if len(c.epochs) > 2]
    if not long:
        return []
    between = "between the last epoch's training accuracy ({}taken while it learns) and validation accuracy{}."
    if len(long) == 1:
        (c,) = long
        training, validation = percent(c.last.train_accuracy, 1), percent(c.last.validation_accuracy, 1)
        return [f"{c.name}: {points(c.gap, 1)} points {between.format(training + ', ', f' ({validation})')}"]
    gaps = _span({c.name: c.gap for c in long}, lambda gap: points(gap, 1))
    return [f"{gaps} points {between.format('', '')}"]


def _comparable(results: Sequence[Result], least: int) -> list[list[Learning]]:
    """Curves whose epochs can be compared, in groups of several; `least`: the fewest epochs."""
    groups = [[Learning.of(result) for result in group] for group in of_equal_work(results)]
    return [curves for curves in groups if len(curves[0].epochs) >= least]


def convergence(results: Sequence[Result]) -> list[str]:
    """Epochs to reach 95 % of the best accuracy of the weakest of them."""
    sentences = []
    for curves in _comparable(results, 3):
        threshold = 0.95 * min(max(e.validation_accuracy for e in c.epochs) for c in curves)
        reached = {c.name: next(e.epoch for e in c.epochs if e.validation_accuracy >= threshold) for c in curves}
        first = min(reached.values())
        fastest = [name for name, epoch in reached.items() if epoch == first]
        told = ", ".join(f"{name} {epoch}" for name, epoch in reached.items())
        who = listing(fastest) if len(fastest) < len(reached) else "all at the same epoch"
        sentences.append(
            f"First epoch with at least {percent(threshold, 1)} validation accuracy: {told}; earliest: {who}."
        )
    return sentences


def stability(results: Sequence[Result]) -> list[str]:
    """Whose validation loss jumps most."""
    sentences = []
    for curves in _comparable(results, STEADY):
        steps = {c.name: c.unsteadiness or 0.0 for c in curves}
        least = max(steps, key=lambda name: steps[name])
        told = ", ".join(f"{name} {value:.3f}" for name, value in steps.items())
        sentences.append(
            f"Least stable validation loss: {least}. (Standard deviation of its steps from epoch to epoch, after the "
            f"first third of them: {told}.)"
        )
    return sentences


def _verb(singular: str, subjects: Sequence[str]) -> str:
    return singular if len(subjects) == 1 else {"does": "do", "has": "have"}[singular]


def _span(values: Mapping[str, float], written: Callable[[Any], str]) -> str:
    """The least and the greatest of several values, with whose they are: `8 (EXP005) to 12 (EXP004)`."""
    (low, least), (high, greatest) = (end(values.items(), key=lambda item: item[1]) for end in (min, max))
    if written(least) == written(greatest):
        return written(least)
    return f"{written(least)} ({low}) to {written(greatest)} ({high})"
