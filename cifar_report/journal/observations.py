"""What a family's results show, in sentences computed from them, each with its figures. None is typed in by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.schema import CLASSES
from cifar_report.formatting import grouped, listing, p_text, percent, points
from cifar_report.journal.budget import images_of, unlike
from cifar_report.journal.comparison import Comparison
from cifar_report.journal.journal import Journal, Result, of_equal_work
from cifar_report.journal.learning_curves import OVERFITTING_RISE, PLATEAU, STEADY, Learning
from cifar_report.journal.statistics import SIGNIFICANCE, holm, mcnemar, wilson_interval
from cifar_report.records.record import RunRecord

NOISE = 1.5  # the same work was seen to take 1.3 times as long where other programs ran beside it
VERDICTS = {
    "better": "Better than",
    "worse": "Worse than",
    "equivalent": "Equivalent to",
    "open": "Undecided against",
    "higher": "Higher accuracy than",
    "lower": "Lower accuracy than",
    "no difference shown": "Not shown to differ from",
}


@dataclass(frozen=True)
class Observation:
    """Sentences on one topic, and what shows them.

    `shown_by`: the `ladder`, the family's `curves`, `learning`, or the experiments whose classes do.
    """

    topic: str
    text: str
    shown_by: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.topic}. {self.text}"


def observe(results: Sequence[Result], journal: Journal) -> list[Observation]:
    """What the results of one family show, one topic after the other."""
    complete = [result for result in results if result.runs]
    learned = [result for result in complete if not _guesses(result)]  # else curves and classes have nothing to say
    curves = [Learning.of(result) for result in learned]
    classes, classes_of = _classes(learned, journal)
    confusions, confusions_of = _confusions(learned)
    found: list[tuple[str, Iterable[str | None], Sequence[str]]] = [
        ("Differences", _differences(complete, journal), ["ladder"]),
        ("Ranking", _ranking(complete), ["ladder"]),
        ("Chance level", map(_guesses, complete), ["learning"]),
        ("Overfitting", _overfitting(curves), ["curves"]),
        ("Plateau", _plateau(curves), ["curves"]),
        ("Convergence", _convergence(learned), ["curves"]),
        ("Stability", _stability(learned), ["curves", "learning"]),
        ("Speed", (_speed(result, journal) for result in complete), ["learning"]),
        ("Classes", classes, classes_of or ["learning"]),
        ("Confusions", confusions, confusions_of),
    ]
    texts = ((topic, " ".join(filter(None, sentences)), shown_by) for topic, sentences, shown_by in found)
    return [Observation(topic, text, tuple(shown_by)) for topic, text, shown_by in texts if text]


def _differences(results: Sequence[Result], journal: Journal) -> Iterator[str]:
    """Each experiment against the one it builds on, with the tests and what makes comparisons unlike."""
    found = [journal.comparisons[r.entry.id] for r in results if r.entry.id in journal.comparisons]
    verdicts = (((VERDICTS[c.verdict] if c.changed else "The same parameters as", c.base, c.caveat), c) for c in found)
    for (verdict, base, caveat), several in grouped(verdicts).items():
        figures = listing(f"{c.experiment} ({_figures(c)})" for c in several)
        yield f"{verdict} {base}: {figures}{f', but not directly comparable: {caveat}' if caveat else ''}."
    tests = grouped((c.test, c.experiment) for c in found)
    parts = [test if len(tests) == 1 else f"{listing(names)}: {test}" for test, names in tests.items()]
    if any(c.verdict == "equivalent" for c in found):
        parts.append(f"equivalent: within {load_catalog().margin:g} point{'s' if load_catalog().margin != 1 else ''}")
    if found:
        yield f"({'; '.join(parts)}; p values Holm-adjusted within the family.)"


def _figures(c: Comparison) -> str:
    interval = f", {points(c.interval[0])} to {points(c.interval[1])}" if c.interval else ""
    return f"{points(c.difference)} points{interval}, {p_text(c.p)}"


def _ranking(results: Sequence[Result]) -> Iterator[str]:
    """The highest and the lowest accuracy: of all at the original's budget, else of those that did equal work."""
    together = len(results) > 1 and all(result.full_budget for result in results)
    for group in [list(results)] if together else of_equal_work(results):
        *_, last = best, *_ = sorted(group, key=lambda r: r.accuracy, reverse=True)
        of = "the family" if len(group) == len(results) else f"equal work ({listing(r.entry.id for r in group)})"
        yield (
            f"Highest accuracy of {of}: {best.entry.id} with {percent(best.accuracy, 2)}, "
            f"{100 * (best.accuracy - last.accuracy):.2f} points above {last.entry.id}, the lowest. "
            f"(Picked from {len(group)} by test accuracy, which overestimates the winner.)"
        )


def _guesses(result: Result) -> str | None:
    """A sentence if no run of an experiment is shown to be above chance."""
    intervals = [wilson_interval(run.test.correct, run.test.total) for run in result.runs if run.test]
    data = result.runs[0].data
    if data is None or any(low > 1 / len(CLASSES[data.name]) for low, _ in intervals):
        return None
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    return (
        f"{result.entry.id} is not shown to be above chance ({percent(1 / len(CLASSES[data.name]))}): its interval "
        f"over the test images is {percent(low, 1)} to {percent(high, 1)}."
    )


def _overfitting(curves: Sequence[Learning]) -> Iterator[str]:
    """Whose validation loss rises while the training loss falls, from which epoch and by how much."""
    if overfit := [c for c in curves if c.course == "overfits"]:
        parts = (
            f"{c.name} after epoch {c.best.epoch} (validation loss ends {percent(c.rise)} higher, its accuracy changes "
            f"by {points(c.last.validation_accuracy - c.best.validation_accuracy)} points)"
            for c in overfit
        )
        yield f"While the training loss falls, validation loss rises: {listing(parts)}."
    for c in curves:
        if c.course == "rises":
            why = "only in the last epoch, which may be noise"
            if c.last.train_loss >= c.best.train_loss:
                why = f"so does its training loss ({c.best.train_loss:.2f}, then {c.last.train_loss:.2f})"
            yield (
                f"The validation loss of {c.name} ends {percent(c.rise)} above its lowest at epoch {c.best.epoch}, "
                f"but {why}."
            )
    if falling := [c for c in curves if c.course == "falls"]:
        yield (
            f"No overfitting in {listing(f'{c.name} ({len(c.epochs)} epochs)' for c in falling)}: validation loss ends "
            f"no more than {percent(OVERFITTING_RISE)} above its lowest."
        )


def _plateau(curves: Sequence[Learning]) -> Iterator[str]:
    """Where the validation accuracy flattens."""
    long = [c for c in curves if len(c.epochs) > 3]
    if flat := [c for c in long if c.plateau]:
        parts = (
            f"{c.name} after epoch {c.plateau} of {len(c.epochs)} "
            f"({percent(c.epochs[(c.plateau or 1) - 1].validation_accuracy, 1)}, at its highest "
            f"{percent(c.highest.validation_accuracy, 1)})"
            for c in flat
        )
        yield f"Validation accuracy gains no more than a point: {'; '.join(parts)}."
    late = [c for c in long if not c.plateau]
    rising = [c for c in late if c.last.validation_accuracy >= c.highest.validation_accuracy - PLATEAU]
    if rising:
        yield f"No plateau yet: {listing(c.name for c in rising)} still gained in the last epochs."
    for c in late:
        if c not in rising:
            lower = points(c.highest.validation_accuracy - c.last.validation_accuracy, 1).lstrip("+")
            yield (
                f"{c.name} is highest at epoch {c.highest.epoch} of {len(c.epochs)} "
                f"({percent(c.highest.validation_accuracy, 1)}) and ends {lower} points lower."
            )


def _convergence(results: Sequence[Result]) -> Iterator[str]:
    """Epochs to reach 95 % of the best accuracy of the weakest of them."""
    for curves in _of_equal_work(results, 3):
        threshold = 0.95 * min(c.highest.validation_accuracy for c in curves)
        reached = {c.name: next(e.epoch for e in c.epochs if e.validation_accuracy >= threshold) for c in curves}
        fastest = [name for name, epoch in reached.items() if epoch == min(reached.values())]
        epochs = ", ".join(f"{name} {epoch}" for name, epoch in reached.items())
        who = listing(fastest) if len(fastest) < len(reached) else "all at the same epoch"
        yield f"First epoch with at least {percent(threshold, 1)} validation accuracy: {epochs}; earliest: {who}."


def _stability(results: Sequence[Result]) -> Iterator[str]:
    """Whose validation loss jumps most."""
    for curves in _of_equal_work(results, STEADY):
        jitters = {c.name: c.jitter or 0.0 for c in curves}
        yield (
            f"Least stable validation loss: {max(jitters, key=lambda name: jitters[name])}. (Jitter, the standard "
            "deviation of its steps from epoch to epoch after the first third: "
            f"{', '.join(f'{name} {value:.3f}' for name, value in jitters.items())}.)"
        )


def _of_equal_work(results: Sequence[Result], least: int) -> list[list[Learning]]:
    """Curves whose epochs can be compared, in groups of several; `least`: the fewest epochs."""
    groups = [[Learning.of(result) for result in group] for group in of_equal_work(results)]
    return [curves for curves in groups if len(curves[0].epochs) >= least]


def _speed(result: Result, journal: Journal) -> str | None:
    base = journal.complete.get(result.entry.builds_on or "")
    if base is None:
        return None
    run, other = result.runs[0], base.runs[0]
    devices = [r.environment and (r.environment.device_name, r.environment.threads) for r in (run, other)]
    if devices[0] != devices[1] or images_of(run) != images_of(other):
        return None
    speed, before = (Learning(r.entry.id, r.runs[:1]).images_per_second for r in (result, base))
    if not speed or not before or 1 / NOISE < speed / before < NOISE:
        return None
    word = f"{speed / before:.1f} times as fast as" if speed > before else f"{before / speed:.1f} times as slowly as"
    return (
        f"{result.entry.id} trains {word} {base.entry.id} ({speed:,.0f} and {before:,.0f} training images a second, "
        "counting all that its training takes)."
    )


def _classes(results: Sequence[Result], journal: Journal) -> tuple[list[str], list[str]]:
    """Which classes gained and lost most, of those whose change a test shows; and whose classes show it."""
    changed: list[tuple[str, str]] = []  # against what, and what changed
    shown_by: list[str] = []
    unchanged: list[str] = []
    for result in results:
        name, base = result.entry.id, journal.complete.get(result.entry.builds_on or "")
        if base is None or name not in journal.comparisons:
            continue
        seed = min({run.seed for run in result.runs} & {run.seed for run in base.runs}, default=None)
        run, other = (next((run for run in r.runs if run.seed == seed), None) for r in (result, base))
        if run is None or other is None or run.data is None or unlike(other, run, paired=False):
            continue
        answers = base.predictions(other), result.predictions(run)
        shared = answers[0].shared_with(answers[1]) if answers[0] and answers[1] else None
        if shared is None:
            continue
        labels, before, after = shared
        present = [k for k in range(len(CLASSES[run.data.name])) if (labels == k).any()]
        p = dict(zip(present, holm([mcnemar(before[labels == k], after[labels == k]) for k in present]), strict=True))
        gains = {k: float(after[labels == k].mean() - before[labels == k].mean()) for k in present}
        ends = [("gains", max(present, key=gains.__getitem__)), ("loses", min(present, key=gains.__getitem__))]
        parts = [
            f"{verb} most in {CLASSES[run.data.name][k]} ({points(gains[k], 1)} points, {p_text(p[k])})"
            for verb, k in ends
            if p[k] < SIGNIFICANCE and (gains[k] > 0) == (verb == "gains")
        ]
        if parts:
            counts = sorted({int((labels == k).sum()) for k in present})
            images = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
            against = f"{_name(other, base)}, over {images} images a class"
            changed.append((against, f"{_name(run, result)} {' and '.join(parts)}"))
        elif journal.comparisons[name].changed:
            unchanged.append(f"{_name(run, result)} against {_name(other, base)}")
        if run is result.runs[0]:  # whose classes the report shows
            shown_by.append(name)
    sentences = [f"Against {base}: {'; '.join(parts)}." for base, parts in grouped(changed).items()]
    if unchanged:
        sentences.append(f"No class is shown to gain or lose in {listing(unchanged)}.")
    if sentences:
        sentences.append("(McNemar over the images of a class, Holm-adjusted over the classes.)")
    return sentences, shown_by


def _confusions(results: Sequence[Result]) -> tuple[list[str], list[str]]:
    """The two classes that are most often taken for each other; and whose classes show it."""
    pairs: list[tuple[str, str]] = []
    shown_by: list[str] = []
    for result in results:
        run, predictions = result.runs[0], result.predictions(result.runs[0])
        if predictions is None or run.data is None or predictions.correct.all():
            continue
        counts, names = predictions.confusion_matrix(), CLASSES[run.data.name]
        both = np.triu(counts + counts.T, k=1)
        one, two = np.unravel_index(both.argmax(), both.shape)
        share = percent(both.max() / int((~predictions.correct).sum()))
        figures = f"{counts[one, two]:,} and {counts[two, one]:,} images, {share} of all its mistakes"
        pairs.append((f"{names[one]} and {names[two]}", f"{_name(run, result)} ({figures})"))
        shown_by.append(result.entry.id)
    sentences = [f"Most often confused: {pair}, in {listing(parts)}." for pair, parts in grouped(pairs).items()]
    return sentences, shown_by


def _name(run: RunRecord, result: Result) -> str:
    return f"{run.experiment} (seed {run.seed})" if len(result.runs) > 1 else run.experiment
