"""Sentences computed from results, each with its figures. Nothing here is typed in by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cifar_report.record import EpochRecord, RunRecord
from cifar_report.report.journal import SIGNIFICANCE, Comparison, Journal, Result

OVERFITTING_RISE = 0.02  # share by which validation loss must end above its minimum to be called overfitting


def observe(results: Sequence[Result], journal: Journal) -> list[str]:
    """What the results of one family show, one sentence each."""
    complete = [result for result in results if result.runs]
    sentences = [_against_base(journal.comparisons[r.entry.id]) for r in complete if r.entry.id in journal.comparisons]
    if len(complete) > 1:
        sentences += _best_of(complete)
    sentences += [sentence for result in complete if (sentence := _overfitting(result))]
    if len(complete) > 1:
        sentences += _convergence(complete)
        sentences += _stability(complete)
    sentences += [sentence for result in complete if (sentence := _speed(result, journal))]
    return sentences


def _against_base(c: Comparison) -> str:
    points = 100 * c.difference
    figures = f"{points:+.2f} points, {p_text(c.p)} ({c.test}, Holm-adjusted within the family)"
    caveat = f" The comparison is not like with like: {c.caveat}." if c.caveat else ""
    if c.verdict == "no difference shown":
        return f"{c.experiment} against {c.base}: no difference shown, {figures}.{caveat}"
    return f"{c.experiment} is {c.verdict} than {c.base}: {figures}.{caveat}"


def _best_of(results: Sequence[Result]) -> list[str]:
    ranked = sorted(results, key=lambda r: r.accuracy, reverse=True)
    best, last = ranked[0], ranked[-1]
    spread = 100 * (best.accuracy - last.accuracy)
    return [
        f"Highest accuracy of the family: {best.entry.id} with {best.accuracy:.2%}, {spread:.2f} points above "
        f"{last.entry.id}, the lowest. (Picked from {len(ranked)} by test accuracy, which flatters the winner.)"
    ]


def _overfitting(result: Result) -> str | None:
    run = result.runs[0]
    if len(run.epochs) < 3:
        return None
    best = min(run.epochs, key=lambda e: e.validation_loss)
    last = run.epochs[-1]
    rise = last.validation_loss / best.validation_loss - 1
    name = _name(run, result)
    if rise > OVERFITTING_RISE:
        return (
            f"{name} overfits from epoch {best.epoch + 1}: its validation loss is lowest at epoch {best.epoch} "
            f"({best.validation_loss:.2f}) and ends {rise:.0%} higher ({last.validation_loss:.2f}), while the training "
            f"loss falls to {last.train_loss:.2f}; its validation accuracy changes by "
            f"{100 * (last.validation_accuracy - best.validation_accuracy):+.2f} points from there to the end."
        )
    return (
        f"{name} does not overfit within {len(run.epochs)} epochs: its validation loss ends at "
        f"{last.validation_loss:.2f}, its lowest is {best.validation_loss:.2f} (epoch {best.epoch})."
    )


def _convergence(results: Sequence[Result]) -> list[str]:
    """Epochs to reach 95 % of the accuracy that the family's weakest member ends with or above."""
    runs = [result.runs[0] for result in results]
    if min(len(run.epochs) for run in runs) < 3:
        return []
    threshold = 0.95 * min(max(e.validation_accuracy for e in run.epochs) for run in runs)
    reached = {run.experiment: next(e.epoch for e in run.epochs if e.validation_accuracy >= threshold) for run in runs}
    first = min(reached.values())
    fastest = [name for name, epoch in reached.items() if epoch == first]
    told = ", ".join(f"{name} {epoch}" for name, epoch in reached.items())
    who = " and ".join(fastest) if len(fastest) < len(reached) else "all at the same epoch"
    return [f"First epoch with at least {threshold:.1%} validation accuracy: {told}; earliest: {who}."]


def _stability(results: Sequence[Result]) -> list[str]:
    runs = [result.runs[0] for result in results]
    if min(len(run.epochs) for run in runs) < 4:
        return []
    jitters = {run.experiment: jitter(run.epochs) for run in runs}
    least = max(jitters, key=lambda name: jitters[name])
    told = ", ".join(f"{name} {value:.3f}" for name, value in jitters.items())
    return [f"Least stable validation loss: {least}. (Standard deviation of its steps from epoch to epoch: {told}.)"]


def jitter(history: Sequence[EpochRecord]) -> float:
    """Standard deviation of the steps of the validation loss from one epoch to the next."""
    return float(np.std(np.diff([epoch.validation_loss for epoch in history]), ddof=1))


def _speed(result: Result, journal: Journal) -> str | None:
    base = journal.complete.get(result.entry.builds_on or "")
    if base is None:
        return None
    here, there = (_images_per_second(r.runs[0]) for r in (result, base))
    same_device = _device(result.runs[0]) == _device(base.runs[0])
    if not here or not there or not same_device or 0.8 < here / there < 1.25:
        return None
    word = f"{here / there:.1f} times as fast" if here > there else f"{there / here:.1f} times slower"
    return f"{result.entry.id} trains {word} than {base.entry.id} ({here:,.0f} and {there:,.0f} images a second)."


def _images_per_second(run: RunRecord) -> float | None:
    """Images trained on a second of epoch time, validation included."""
    seconds = sum(epoch.seconds for epoch in run.epochs)
    return run.data.train_size * len(run.epochs) / seconds if run.data and seconds else None


def _device(run: RunRecord) -> tuple[str, int] | None:
    return (run.environment.device_name, run.environment.threads) if run.environment else None


def _name(run: RunRecord, result: Result) -> str:
    return f"{run.experiment} (seed {run.seed})" if len(result.runs) > 1 else run.experiment


def p_text(p: float) -> str:
    """A p value as people write it: `p = 0.024`, `p < 0.001`."""
    return "p < 0.001" if p < 1e-3 else f"p = {p:.3f}"


Answer = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What the data say of a claim, and why."""

    claim: str
    answer: Answer
    reason: str


def verdicts(journal: Journal) -> list[Verdict]:
    """The original report's two hypotheses and its summary's claims, judged on this journal's data."""
    return [
        _reaches_80(journal),
        _all_better(
            journal,
            "A network fine-tuned from ImageNet weights beats LeNet trained from nothing.",
            ["EXP011", "EXP012", "EXP013"],
        ),
        _all_better(
            journal,
            "Augmentation at 224 pixels improves on the same models at 32 pixels.",
            ["EXP017", "EXP018", "EXP019"],
        ),
        _all_better(
            journal,
            "Training only the last two layers is worse than training all.",
            ["EXP014", "EXP015", "EXP016"],
            sought="worse",
        ),
        _all_better(journal, "ImageNet channel statistics (and five more epochs) improve on EXP017.", ["EXP020"]),
        _no_difference(
            journal,
            "The initial weights matter little for LeNet.",
            ["EXP003", "EXP004", "EXP005", "EXP006"],
        ),
        _no_difference(journal, "The optimizer matters little for LeNet.", ["EXP007", "EXP008", "EXP009", "EXP010"]),
    ]


def _reaches_80(journal: Journal) -> Verdict:
    claim = "At least 80 % accuracy can be had with pretrained models, augmentation, initialization and optimizers."
    if not journal.complete:
        return Verdict(claim, "undecided", "no run is complete")
    best = max(journal.complete.values(), key=lambda r: r.accuracy)
    low, high = best.interval
    reason = f"the best, {best.entry.id}, has {best.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"
    if any(run.data and run.data.name != "cifar10" for run in best.runs):
        return Verdict(claim, "undecided", f"{reason}, but not on CIFAR-10")
    if low >= 0.8:
        return Verdict(claim, "supported", reason)
    # Below 80 % only refutes the claim if everything was tried at its full budget.
    return Verdict(claim, "undecided", f"{reason}; more training may yet reach it")


def _all_better(journal: Journal, claim: str, experiments: Sequence[str], *, sought: str = "better") -> Verdict:
    """Supported if every comparison says so, refuted if every one says the opposite; like with like, at full budget."""
    found, obstacle = _comparisons(journal, experiments)
    told = "; ".join(f"{c.experiment} against {c.base}: {c.verdict}, {100 * c.difference:+.2f} points" for c in found)
    if obstacle:
        return Verdict(claim, "undecided", f"{told}; {obstacle}" if told else obstacle)
    told += f" ({found[0].test})"
    opposite = "worse" if sought == "better" else "better"
    if all(c.verdict == sought for c in found):
        return Verdict(claim, "supported", told)
    if all(c.verdict == opposite for c in found):
        return Verdict(claim, "refuted", told)
    return Verdict(claim, "undecided", told)


def _no_difference(journal: Journal, claim: str, experiments: Sequence[str]) -> Verdict:
    """Refuted by a difference over several seeds: one seed cannot tell a method from luck. Never proven."""
    found, obstacle = _comparisons(journal, experiments)
    told = "; ".join(f"{c.experiment} against {c.base}: {c.verdict}, {100 * c.difference:+.2f} points" for c in found)
    if obstacle:
        return Verdict(claim, "undecided", f"{told}; {obstacle}" if told else obstacle)
    if any("n = 1" in c.test for c in found):
        return Verdict(claim, "undecided", f"{told}; one seed cannot tell a method from luck")
    if any(c.p < SIGNIFICANCE for c in found):
        return Verdict(claim, "refuted", f"{told} ({found[0].test})")
    return Verdict(claim, "undecided", f"{told}; that no difference was shown does not prove that there is none")


def _comparisons(journal: Journal, experiments: Sequence[str]) -> tuple[list[Comparison], str]:
    """The comparisons a claim rests on, and what forbids a verdict on them, if anything does."""
    found = [journal.comparisons[name] for name in experiments if name in journal.comparisons]
    missing = [name for name in experiments if name not in journal.comparisons]
    unlike = [f"{c.experiment}: {c.caveat}" for c in found if c.caveat]
    if missing:
        return found, f"no comparison for {', '.join(missing)}"
    if unlike:
        return found, f"not like with like ({'; '.join(unlike)})"
    if not all(c.full_budget for c in found):
        return found, "not at full budget"
    return found, ""
