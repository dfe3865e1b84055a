"""What a family's results show, in sentences computed from them, each with its figures. None is typed in by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cifar_report.formatting import grouped, listing, p_text, percent, points, ranges
from cifar_report.journal.journal import Journal, Result, of_equal_work
from cifar_report.journal.statistics import SIGNIFICANCE, contrast, holm, wilson_interval
from cifar_report.records.record import run_name


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
    """What the results of one family show, one topic after the other. Figures of several seeds are their means."""
    complete = [result for result in results if result.runs]
    if not complete:
        return []
    guesses = [_guesses(result) for result in complete]  # where there is one, curves and classes have nothing to say
    learned = [result for result, guess in zip(complete, guesses, strict=True) if not guess]
    curves = journal.means.reindex([result.entry.id for result in learned])
    alike = [curves.loc[[result.entry.id for result in group]] for group in of_equal_work(learned)]
    classes, classes_of = _classes(learned, journal)
    confusions, confusions_of = _confusions(learned)
    compared = (journal.comparisons.get(result.entry.id) for result in complete)
    answers = grouped((f"{c.answer.capitalize()}, in points", str(c)) for c in compared if c)
    found: list[tuple[str, Iterable[str | None], Sequence[str]]] = [
        ("Differences", (f"{answer}: {'; '.join(of)}." for answer, of in answers.items()), ["ladder"]),
        ("Chance level", guesses, ["learning"]),
        ("Overfitting", _overfitting(curves), ["curves"]),
        ("Convergence", (_fastest(figures) for figures in alike if figures.epochs.iloc[0] > 2), ["curves"]),
        ("Classes", classes, classes_of or ["learning"]),
        ("Confusions", confusions, confusions_of),
    ]
    texts = ((topic, " ".join(filter(None, sentences)), shown_by) for topic, sentences, shown_by in found)
    return [Observation(topic, text, tuple(shown_by)) for topic, text, shown_by in texts if text]


def _guesses(result: Result) -> str | None:
    """A sentence if no run of an experiment is shown to be above chance."""
    level = 1 - SIGNIFICANCE / len(result.runs)  # so that one is above chance by luck in at most 5 of 100 cases
    intervals = [wilson_interval(run.test.correct, run.test.total, level) for run in result.runs if run.test]
    if (predictions := result.predictions(result.runs[0])) is None:
        return None
    chance = np.bincount(predictions.labels).max() / len(predictions.labels)  # right with the largest class alone
    if any(low > chance for low, _ in intervals):
        return None
    its = "its interval over the test images is" if len(intervals) == 1 else "its runs' intervals over test images are"
    over = "; ".join(dict.fromkeys(f"{percent(low, 1)} to {percent(high, 1)}" for low, high in intervals))
    return f"{result.entry.id} is not shown to be above chance ({percent(chance)}): {its} {over}."


def _overfitting(curves: pd.DataFrame) -> Iterator[str]:
    """Whose validation loss rises while the training loss falls, from which epoch and by how much."""
    long = curves.dropna(subset="overfits")
    if len(overfit := long[long.overfits > 0.5]):  # more than half of the seeds
        parts = (
            f"{c.Index} after epoch {c.best_epoch:.3g} (loss +{c.loss_rise:.0f} %, accuracy "
            f"{points(c.gain_after_lowest_loss / 100)} points)"
            for c in overfit.itertuples()
        )
        yield f"While the training loss falls, validation loss rises: {listing(parts)}."
    if len(some := long[(long.overfits > 0) & (long.overfits <= 0.5)]):
        yield f"In some seeds only, at most half of them: {listing(ranges(some.index))}."
    if len(other := long[long.overfits == 0]):
        ends = grouped((f"{c.loss_rise:.0f} %", c.Index) for c in other.itertuples())
        parts = (f"{rise} above its lowest in {listing(ranges(names))}" for rise, names in ends.items())
        yield f"No overfitting shown: validation loss ends {'; '.join(parts)}."


def _fastest(alike: pd.DataFrame) -> str:
    """Who is fastest to 95 % of the highest validation accuracy, each of its own."""
    figures = alike.epochs_to_95_percent.sort_values(kind="stable")
    names = grouped((f"{value:.3g}", name) for name, value in figures.items())
    ranked = ", ".join(f"{listing(ranges(of))} {value}" for value, of in names.items())
    return f"Epochs (of {alike.epochs.iloc[0]:.0f}) until 95 % of the highest validation accuracy: {ranked}."


def _classes(results: Sequence[Result], journal: Journal) -> tuple[list[str], list[str]]:
    """Which classes gain and lose most over seeds, of those whose change is shown; and whose classes show it.

    Two seeds of one experiment are as far apart in a class as two experiments are: one seed each shows nothing.
    """
    changed: list[tuple[str, str]] = []  # against what, and what changed
    unchanged: list[str] = []
    for name in (result.entry.id for result in results):
        methods = journal.comparisons.get(name)
        if methods is None or methods.contrast is None or methods.caveat or not methods.changed:
            continue
        tested = {
            of: found
            for of, (values, spreads) in journal.class_accuracies.items()
            if (found := contrast([name], [methods.base], values, spreads, journal.kinds))
        }
        if not tested:  # its predictions are lost
            continue
        p = holm({of: found.p for of, found in tested.items()})
        gains = {of: found.difference for of, found in tested.items() if p[of] < SIGNIFICANCE}
        parts = [
            f"{verb} most in {of} ({points(gains[of], 1)} points, {p_text(p[of])})"
            for verb, furthest in (("gains", max), ("loses", min))
            if gains and (gains[of := furthest(gains, key=gains.__getitem__)] > 0) == (verb == "gains")
        ]
        if parts:
            changed.append((methods.base, f"{name} {' and '.join(parts)}"))
        else:
            unchanged.append(name)
    sentences = [f"Against {base}: {'; '.join(parts)}." for base, parts in grouped(changed).items()]
    if unchanged:
        sentences.append(f"No class is shown to gain or lose in {listing(ranges(unchanged))}.")
    if sentences:
        sentences.append("(t-tests over seeds, Holm-adjusted over the classes.)")
    return sentences, [part.split()[0] for _, part in changed]


def _confusions(results: Sequence[Result]) -> tuple[list[str], list[str]]:
    """The two classes that are most often taken for each other; and whose classes show it."""
    pairs: list[tuple[str, str]] = []
    shown_by: list[str] = []
    for result in results:
        run, predictions = result.runs[0], result.predictions(result.runs[0])
        if predictions is None or run.data is None or predictions.correct.all():
            continue
        counts, names = predictions.confusion_matrix(), run.data.class_names
        both = np.triu(counts + counts.T, k=1)
        one, two = np.unravel_index(both.argmax(), both.shape)
        share = percent(both.max() / int((~predictions.correct).sum()))
        figures = f"{counts[one, two]:,} and {counts[two, one]:,} images, {share} of all its mistakes"
        seed = f"{run_name('', run.parameters).strip()}: " if len(result.runs) > 1 else ""
        pairs.append((f"{names[one]} and {names[two]}", f"{run.experiment} ({seed}{figures})"))
        shown_by.append(result.entry.id)
    sentences = [f"Most often confused: {pair}, in {listing(parts)}." for pair, parts in grouped(pairs).items()]
    return sentences, shown_by
