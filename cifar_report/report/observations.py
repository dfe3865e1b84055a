"""Sentences computed from results, each with its figures. Nothing here is typed in by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cifar_report.experiment import CLASSES
from cifar_report.record import EpochRecord, RunRecord
from cifar_report.report.journal import Comparison, Journal, Result
from cifar_report.report.statistics import SIGNIFICANCE, wilson_interval
from cifar_report.wording import p_text, percent, points

OVERFITTING_RISE = 0.02  # share by which validation loss must end above its minimum to be called overfitting
NOISE = 1.5  # the same work was seen to take 1.3 times as long where other programs ran beside it
PLATEAU = 0.01  # share of images: a curve has flattened where it is this near to the highest it will reach


@dataclass(frozen=True)
class Observation:
    """A sentence, and what shows it: the family's learning curves, the ladder, or an experiment's own classes."""

    text: str
    shown_by: Literal["ladder", "curves", "classes", "results"]
    experiment: str | None = None

    def __str__(self) -> str:
        return self.text


def observe(results: Sequence[Result], journal: Journal) -> list[Observation]:
    """What the results of one family show, one sentence each."""
    complete = [result for result in results if result.runs]
    found: list[Observation] = []

    def note(sentences: Sequence[str | None], shown_by: Literal["ladder", "curves", "results"]) -> None:
        found.extend(Observation(sentence, shown_by) for sentence in sentences if sentence)

    compared = [journal.comparisons[r.entry.id] for r in complete if r.entry.id in journal.comparisons]
    note([_against_base(comparison) for comparison in compared], "ladder")
    if len(complete) > 1:
        note(_best_of(complete), "ladder")
    note([_guesses(result) for result in complete], "results")
    learned = [result for result in complete if not _guesses(result)]
    note([_overfitting(result) for result in learned], "curves")
    note([_plateau(result) for result in learned], "curves")
    note([_generalisation_gap(result) for result in learned], "curves")
    note(_convergence(learned), "curves")
    note(_stability(learned), "curves")
    note([_speed(result, journal) for result in complete], "results")
    for result in learned:
        found += filter(None, [_classes_changed(result, journal), _most_confused(result)])
    return found


def _against_base(c: Comparison) -> str:
    figures = f"{points(c.difference)} points, {p_text(c.p)} ({c.test}, Holm-adjusted within the family)"
    caveat = f" The comparison is not like with like: {c.caveat}." if c.caveat else ""
    if not c.changed:
        return f"{c.experiment} repeats {c.base} with the same parameters: {figures}.{caveat}"
    if c.verdict == "no difference shown":
        return f"{c.experiment} against {c.base}: no difference shown, {figures}.{caveat}"
    return f"{c.experiment} is {c.verdict} than {c.base}: {figures}.{caveat}"


def _best_of(results: Sequence[Result]) -> list[str]:
    ranked = sorted(results, key=lambda r: r.accuracy, reverse=True)
    best, last = ranked[0], ranked[-1]
    spread = 100 * (best.accuracy - last.accuracy)
    return [
        f"Highest accuracy of the family: {best.entry.id} with {percent(best.accuracy, 2)}, {spread:.2f} points above "
        f"{last.entry.id}, the lowest. (Picked from {len(ranked)} by test accuracy, which flatters the winner.)"
    ]


def _guesses(result: Result) -> str | None:
    """Whether a run is not shown to be better than guessing; then its curves and classes have nothing to say."""
    run = result.runs[0]
    if run.test is None or run.data is None:
        return None
    chance = 1 / len(CLASSES[run.data.name])
    low, high = wilson_interval(run.test.correct, run.test.total)
    if low > chance:
        return None
    return (
        f"{_name(run, result)} is not shown to be better than guessing, which is right in {percent(chance)} of cases: "
        f"its interval is {percent(low, 1)} to {percent(high, 1)}."
    )


def _overfitting(result: Result) -> str | None:
    run = result.runs[0]
    if len(run.epochs) < 3:
        return None
    best = min(run.epochs, key=lambda e: e.validation_loss)
    last = run.epochs[-1]
    rise = last.validation_loss / best.validation_loss - 1
    name = _name(run, result)
    if rise > OVERFITTING_RISE and last.train_loss >= best.train_loss:
        return (
            f"The validation loss of {name} ends {percent(rise)} above its lowest ({last.validation_loss:.2f}; "
            f"{best.validation_loss:.2f} at epoch {best.epoch}), but its training loss ends no lower than it was there "
            f"({last.train_loss:.2f}; {best.train_loss:.2f})."
        )
    if rise > OVERFITTING_RISE:
        return (
            f"{name} overfits from epoch {best.epoch + 1}: its validation loss is lowest at epoch {best.epoch} "
            f"({best.validation_loss:.2f}) and ends {percent(rise)} higher ({last.validation_loss:.2f}), while the "
            f"training loss falls to {last.train_loss:.2f}; its validation accuracy changes by "
            f"{points(last.validation_accuracy - best.validation_accuracy)} points from there to the end."
        )
    return (
        f"{name} does not overfit within {len(run.epochs)} epochs: its validation loss ends at "
        f"{last.validation_loss:.2f}, its lowest is {best.validation_loss:.2f} (epoch {best.epoch})."
    )


def _plateau(result: Result) -> str | None:
    """Where the validation accuracy flattens: the first epoch after which its highest rises by no more than a point."""
    run = result.runs[0]
    if len(run.epochs) < 4:
        return None
    accuracies = [e.validation_accuracy for e in run.epochs]
    highest = max(accuracies)
    flat = next(e for e, accuracy in enumerate(accuracies, start=1) if highest - accuracy <= PLATEAU + 1e-9)
    if flat > len(accuracies) - 2:
        return f"{_name(run, result)} has not flattened: it still gains in the last epochs."
    return (
        f"{_name(run, result)} gains no more than a point of validation accuracy after epoch {flat} of "
        f"{len(accuracies)}: {percent(accuracies[flat - 1], 1)} there, {percent(highest, 1)} at its highest."
    )


def _generalisation_gap(result: Result) -> str | None:
    run = result.runs[0]
    last = run.epochs[-1]
    gap = last.train_accuracy - last.validation_accuracy
    if len(run.epochs) < 3:
        return None
    return (
        f"Generalisation gap of {_name(run, result)}: {points(gap, 1)} points between the last epoch's training "
        f"accuracy ({percent(last.train_accuracy, 1)}, taken while it learns) and validation accuracy "
        f"({percent(last.validation_accuracy, 1)})."
    )


def _classes_changed(result: Result, journal: Journal) -> Observation | None:
    """Which classes gained and lost most against the experiment it builds on, over the images both were tested on."""
    base = journal.complete.get(result.entry.builds_on or "")
    if base is None or result.entry.id not in journal.comparisons:
        return None
    seed = min({run.seed for run in result.runs} & {run.seed for run in base.runs})  # compared, so there is one
    run, other = (next(run for run in r.runs if run.seed == seed) for r in (result, base))
    here, there = result.predictions(run), base.predictions(other)
    if here is None or there is None or run.data is None:
        return None
    _, i, j = np.intersect1d(here.index, there.index, return_indices=True)
    labels, names = here.labels[i], CLASSES[run.data.name]
    totals = np.maximum(np.bincount(labels, minlength=len(names)), 1)
    change = (
        np.bincount(labels, weights=here.correct[i].astype(float) - there.correct[j], minlength=len(names)) / totals
    )
    most, least = int(change.argmax()), int(change.argmin())
    if change[most] <= 0 and change[least] >= 0:
        return None
    parts = []
    if change[most] > 0:
        parts.append(f"gains most in {names[most]} ({points(change[most], 1)} points of {totals[most]:,} images)")
    if change[least] < 0:
        parts.append(f"loses most in {names[least]} ({points(change[least], 1)} points of {totals[least]:,})")
    sentence = f"Against {_name(other, base)}, {_name(run, result)} {' and '.join(parts)}."
    # The report shows the classes of the first seed alone.
    return Observation(sentence, "classes" if run is result.runs[0] else "results", result.entry.id)


def _most_confused(result: Result) -> Observation | None:
    """The two classes that are most often taken for each other."""
    run = result.runs[0]
    predictions = result.predictions(run)
    if predictions is None or run.data is None:
        return None
    counts, names = predictions.confusion_matrix(), CLASSES[run.data.name]
    both = np.triu(counts + counts.T, k=1)
    if both.max() == 0:
        return None
    one, two = np.unravel_index(both.argmax(), both.shape)
    share = both.max() / max(1, int((~predictions.correct).sum()))
    return Observation(
        f"{_name(run, result)} confuses {names[one]} and {names[two]} most: {counts[one, two]:,} and "
        f"{counts[two, one]:,} images, {percent(share)} of all its mistakes.",
        "classes",
        result.entry.id,
    )


def _of_equal_work(results: Sequence[Result]) -> list[list[tuple[str, RunRecord]]]:
    """Runs whose epochs can be compared, since they are of the same images and as many: named, in groups of several."""
    groups: dict[tuple, list[tuple[str, RunRecord]]] = {}
    for result in results:
        run = result.runs[0]
        if run.data is not None:
            work = (run.data.sha256, run.data.split_sha256, run.data.train_size, len(run.epochs))
            groups.setdefault(work, []).append((_name(run, result), run))
    return [group for group in groups.values() if len(group) > 1]


def _convergence(results: Sequence[Result]) -> list[str]:
    """Epochs to reach 95 % of the best accuracy of the weakest of them."""
    sentences = []
    for runs in _of_equal_work(results):
        if len(runs[0][1].epochs) < 3:
            continue
        threshold = 0.95 * min(max(e.validation_accuracy for e in run.epochs) for _, run in runs)
        reached = {name: next(e.epoch for e in run.epochs if e.validation_accuracy >= threshold) for name, run in runs}
        first = min(reached.values())
        fastest = [name for name, epoch in reached.items() if epoch == first]
        told = ", ".join(f"{name} {epoch}" for name, epoch in reached.items())
        who = " and ".join(fastest) if len(fastest) < len(reached) else "all at the same epoch"
        sentences.append(
            f"First epoch with at least {percent(threshold, 1)} validation accuracy: {told}; earliest: {who}."
        )
    return sentences


def _stability(results: Sequence[Result]) -> list[str]:
    sentences = []
    for runs in _of_equal_work(results):
        if len(runs[0][1].epochs) < 4:
            continue
        jitters = {name: jitter(run.epochs) for name, run in runs}
        least = max(jitters, key=lambda name: jitters[name])
        told = ", ".join(f"{name} {value:.3f}" for name, value in jitters.items())
        sentences.append(
            f"Least stable validation loss: {least}. (Standard deviation of its steps from epoch to epoch: {told}.)"
        )
    return sentences


def jitter(history: Sequence[EpochRecord]) -> float:
    """Standard deviation of the steps of the validation loss from one epoch to the next."""
    return float(np.std(np.diff([epoch.validation_loss for epoch in history]), ddof=1))


def _speed(result: Result, journal: Journal) -> str | None:
    base = journal.complete.get(result.entry.builds_on or "")
    if base is None:
        return None
    run, other = result.runs[0], base.runs[0]
    if _device(run) != _device(other) or _images_an_epoch(run) != _images_an_epoch(other):
        return None
    here, there = _images_per_second(run), _images_per_second(other)
    if not here or not there or 1 / NOISE < here / there < NOISE:
        return None
    word = f"{here / there:.1f} times as fast as" if here > there else f"{there / here:.1f} times as slowly as"
    return (
        f"{_name(run, result)} trains {word} {_name(other, base)} ({here:,.0f} and {there:,.0f} training images a "
        "second, counting all that its training takes)."
    )


def _images_per_second(run: RunRecord) -> float | None:
    """Training images a second of training, validation and what is computed once included."""
    return run.data.train_size * len(run.epochs) / run.seconds.train if run.data and run.seconds.train else None


def _images_an_epoch(run: RunRecord) -> tuple[int, int] | None:
    return (run.data.train_size, run.data.validation_size) if run.data else None


def _device(run: RunRecord) -> tuple[str, int] | None:
    return (run.environment.device_name, run.environment.threads) if run.environment else None


def _name(run: RunRecord, result: Result) -> str:
    return f"{run.experiment} (seed {run.seed})" if len(result.runs) > 1 else run.experiment


Answer = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """A hypothesis or a question's claim, what the data say of it, and why."""

    origin: str
    claim: str
    answer: Answer
    reason: str


def verdicts(journal: Journal) -> list[Verdict]:
    """The original report's two hypotheses and six questions, judged on this journal's data."""
    transfer, augmented = ["EXP011", "EXP012", "EXP013"], ["EXP017", "EXP018", "EXP019"]
    return [
        _reaches_80(journal),
        _changes(
            journal,
            "Hypothesis 2",
            "Pretrained models and augmentation each improve accuracy.",
            [*transfer, *augmented],
            by=("weights", "augment"),
        ),
        _changes_nothing(
            journal, "Question 1", "The optimizer matters little for LeNet.", ["EXP007", "EXP008", "EXP009", "EXP010"]
        ),
        _changes_nothing(
            journal,
            "Question 2",
            "The initial weights matter little for LeNet.",
            ["EXP003", "EXP004", "EXP005", "EXP006"],
        ),
        _changes(journal, "Question 3", "A network fine-tuned from ImageNet weights beats LeNet.", transfer),
        _changes(
            journal,
            "Question 3",
            "Training only the last two layers is worse than training all.",
            ["EXP014", "EXP015", "EXP016"],
            sought="worse",
        ),
        _crossed(journal),
        _changes(
            journal,
            "Question 5",
            "Augmented images of 224 pixels, for fewer epochs, improve on the same models at 32 pixels.",
            augmented,
        ),
        _each_augmentation(journal),
        _changes(
            journal, "Afterwards", "ImageNet channel statistics (and five more epochs) improve on EXP017.", ["EXP020"]
        ),
    ]


def _crossed(journal: Journal) -> Verdict:
    """Whether optimizer and initial weights were varied together, as an answer to the question would need."""
    claim = "Optimizer and initial weights act together: the best of one depends on the other."
    tried: dict[str, set[str]] = {}
    for result in journal.complete.values():
        for run in result.runs:
            if run.parameters["model"] == "lenet":
                tried.setdefault(str(run.parameters["optimizer"]), set()).add(str(run.parameters["init"]))
    several = {name: inits for name, inits in tried.items() if len(inits) > 1}
    told = "; ".join(f"{name} with {', '.join(sorted(inits))}" for name, inits in tried.items()) or "no run is complete"
    if len(several) < 2:
        return Verdict("Question 4", claim, "undecided", f"no two optimizers were tried with several schemes ({told})")
    return Verdict("Question 4", claim, "undecided", f"tried: {told}; this journal does not test interactions")


def _each_augmentation(journal: Journal) -> Verdict:
    """Whether any augmentation was tried alone."""
    claim = "Some augmentations matter more than others."
    runs = [run for result in journal.complete.values() for run in result.runs]
    tried = {tuple(run.parameters["augment"]) for run in runs if run.parameters["augment"]}
    told = "; ".join(" + ".join(names) for names in sorted(tried)) or "none"
    if not any(len(names) == 1 for names in tried):
        return Verdict("Question 6", claim, "undecided", f"no augmentation was tried alone (tried: {told})")
    return Verdict("Question 6", claim, "undecided", f"tried: {told}; this journal does not compare them")


def _reaches_80(journal: Journal) -> Verdict:
    claim = "At least 80 % accuracy can be had with pretrained models, augmentation, initialization and optimizers."
    if not journal.complete:
        return Verdict("Hypothesis 1", claim, "undecided", "no run is complete")
    best = max(journal.complete.values(), key=lambda r: r.accuracy)
    low, high = best.interval
    interval = f"95 % interval {percent(low, 2)} to {percent(high, 2)}"
    reason = f"the best, {best.entry.id}, has {percent(best.accuracy, 2)} ({interval})"
    if any(run.data and run.data.name != "cifar10" for run in best.runs):
        return Verdict("Hypothesis 1", claim, "undecided", f"{reason}, but not on CIFAR-10")
    if low >= 0.8:
        return Verdict("Hypothesis 1", claim, "supported", reason)
    # Below 80 % only refutes the claim if everything was tried at its full budget.
    return Verdict("Hypothesis 1", claim, "undecided", f"{reason}; more training may yet reach it")


def _changes(
    journal: Journal,
    origin: str,
    claim: str,
    experiments: Sequence[str],
    *,
    sought: Literal["better", "worse"] = "better",
    by: Sequence[str] = (),
) -> Verdict:
    """Supported if every comparison says what is sought, refuted if every one says the opposite.

    `by`: the parameters of which the claim says that each does it. Where a comparison changes more than one of them, or
    others, it cannot tell; as long as the catalog has none that does, there is no verdict.
    """
    found, told, obstacle = _evidence(journal, experiments)
    mixed = [c for c in found if by and (len(c.changed) != 1 or c.changed[0] not in by)]
    if mixed and not obstacle:
        differences = "; ".join(f"{c.experiment} and {c.base} differ in {', '.join(c.changed)}" for c in mixed)
        obstacle = f"what each of {' and '.join(by)} does alone cannot be told: {differences}"
    if obstacle:
        return Verdict(origin, claim, "undecided", "; ".join(filter(None, [obstacle, told])))
    opposite = "worse" if sought == "better" else "better"
    answers = {c.verdict for c in found}
    answer: Answer = "supported" if answers == {sought} else "refuted" if answers == {opposite} else "undecided"
    return Verdict(origin, claim, answer, told)


def _changes_nothing(journal: Journal, origin: str, claim: str, experiments: Sequence[str]) -> Verdict:
    """Refuted by a difference. Never proven."""
    found, told, obstacle = _evidence(journal, experiments)
    if obstacle:
        return Verdict(origin, claim, "undecided", "; ".join(filter(None, [obstacle, told])))
    if any(c.p < SIGNIFICANCE for c in found):
        return Verdict(origin, claim, "refuted", told)
    return Verdict(
        origin, claim, "undecided", f"that no difference was shown does not prove that there is none; {told}"
    )


def _evidence(journal: Journal, experiments: Sequence[str]) -> tuple[list[Comparison], str, str]:
    """The comparisons a claim about methods rests on, what they say, and what forbids a verdict, if anything does."""
    found = [journal.comparisons[name] for name in experiments if name in journal.comparisons]
    missing = [name for name in experiments if name not in journal.comparisons]
    unlike = [c.experiment for c in found if c.caveat]
    told = "; ".join(
        f"against {base}: "
        + ", ".join(f"{c.experiment} {points(c.difference)} ({c.verdict})" for c in found if c.base == base)
        for base in dict.fromkeys(c.base for c in found)
    )
    if found:
        told += f"; in points, {' and '.join(dict.fromkeys(c.test for c in found))}"
    if missing:
        return found, told, f"no comparison for {', '.join(missing)}"
    if unlike:
        return found, told, f"not like with like: {', '.join(unlike)}, as the observations on them say"
    if not all(c.full_budget for c in found):
        return found, told, "not at full budget"
    if any(c.seeds == 1 for c in found):
        return found, told, "one seed cannot tell a method from luck"
    return found, told, ""
