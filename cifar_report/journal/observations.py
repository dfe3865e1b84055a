"""What a family's results show, in sentences computed from them, each with its figures. None is typed in by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.schema import CLASSES
from cifar_report.formatting import grouped, listing, p_text, percent, points
from cifar_report.journal.class_observations import classes_changed, confused
from cifar_report.journal.curve_observations import convergence, generalisation_gap, overfitting, plateau, stability
from cifar_report.journal.learning_curves import Learning
from cifar_report.journal.results import Comparison, Journal, Result, of_equal_work
from cifar_report.journal.statistics import wilson_interval
from cifar_report.records.record import RunRecord

NOISE = 1.5  # the same work was seen to take 1.3 times as long where other programs ran beside it


@dataclass(frozen=True)
class Observation:
    """Sentences on one topic, and what shows them.

    `shown_by`: the `ladder`, the family's `curves`, `learning` or `results`, or the experiments whose classes do.
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
    (changed, changed_in), (mistaken, mistaken_in) = classes_changed(learned, journal), confused(learned)
    found = [
        _observation("Differences", _differences(complete, journal), "ladder"),
        _observation("Ranking", _ranking(complete), "ladder"),
        _observation("Guessing", map(_guesses, complete), "results"),
        _observation("Overfitting", overfitting(curves), "curves"),
        _observation("Plateau", plateau(curves), "curves"),
        _observation("Generalisation gap", generalisation_gap(curves), "curves"),
        _observation("Convergence", convergence(learned), "curves"),
        _observation("Stability", stability(learned), "curves", "learning"),
        _observation("Speed", (_speed(result, journal) for result in complete), "learning"),
        _observation("Classes", changed, *(changed_in or ["results"])),
        _observation("Confusions", mistaken, *mistaken_in),
    ]
    return [observation for observation in found if observation]


def _observation(topic: str, sentences: Iterable[str | None], *shown_by: str) -> Observation | None:
    text = " ".join(filter(None, sentences))
    return Observation(topic, text, shown_by) if text else None


def _differences(results: Sequence[Result], journal: Journal) -> list[str]:
    """Each experiment against the one it builds on, with the tests and what makes comparisons unlike."""
    found = [journal.comparisons[r.entry.id] for r in results if r.entry.id in journal.comparisons]
    sentences: list[str] = []
    unshown: dict[str, list[str]] = {}
    for c in found:
        if not c.changed:
            but = f", but not directly comparable: {c.caveat}" if c.caveat else ""
            sentences.append(f"{c.experiment} repeats {c.base} with the same parameters: {_figures(c)}{but}.")
        elif c.caveat:
            how = "not shown to differ from" if c.verdict == "no difference shown" else f"{c.verdict} than"
            sentences.append(
                f"The accuracy of {c.experiment} is {how} that of {c.base} ({_figures(c)}), but not directly "
                f"comparable: {c.caveat}."
            )
        elif c.verdict in ("no difference shown", "open", "equivalent"):
            unshown.setdefault(c.verdict, []).append(f"{c.experiment} against {c.base} ({_figures(c)})")
        elif c.p_equivalent is None:
            sentences.append(f"The accuracy of {c.experiment} is {c.verdict} than that of {c.base}: {_figures(c)}.")
        else:
            sentences.append(f"{c.experiment} is {c.verdict} than {c.base}: {_figures(c)}.")
    words = {
        "no difference shown": "No difference is shown for",
        "open": "It is open whether there is a difference for",
        "equivalent": f"Equivalent within {load_catalog().margin:g} point{'s' if load_catalog().margin != 1 else ''}:",
    }
    sentences += [f"{word} {listing(unshown[verdict])}." for verdict, word in words.items() if verdict in unshown]
    tests = grouped((c.test, c.experiment) for c in found)
    told = "; ".join(test if len(tests) == 1 else f"{listing(names)}: {test}" for test, names in tests.items())
    if found:
        sentences.append(f"({told}; p values Holm-adjusted within the family.)")
    return sentences


def _figures(c: Comparison) -> str:
    interval = f" ({points(c.interval[0])} to {points(c.interval[1])})" if c.interval else ""
    return f"{points(c.difference)}{interval} points, {p_text(c.p)}"


def _ranking(results: Sequence[Result]) -> list[str]:
    """The highest and the lowest accuracy: of all at the original's budget, else of those that did equal work."""
    together = len(results) > 1 and all(result.full_budget for result in results)
    sentences = []
    for group in [list(results)] if together else of_equal_work(results):
        ranked = sorted(group, key=lambda r: r.accuracy, reverse=True)
        best, last = ranked[0], ranked[-1]
        of = (
            "the family"
            if len(group) == len(results)
            else f"those with equal work, {listing(r.entry.id for r in group)}"
        )
        sentences.append(
            f"Highest accuracy of {of}: {best.entry.id} with {percent(best.accuracy, 2)}, "
            f"{100 * (best.accuracy - last.accuracy):.2f} points above {last.entry.id}, the lowest. "
            f"(Picked from {len(ranked)} by test accuracy, which flatters the winner.)"
        )
    return sentences


def _guesses(result: Result) -> str | None:
    """A sentence if no run of an experiment is shown to be better than guessing."""
    intervals = [wilson_interval(run.test.correct, run.test.total) for run in result.runs if run.test]
    data = result.runs[0].data
    if data is None or any(low > 1 / len(CLASSES[data.name]) for low, _ in intervals):
        return None
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    return (
        f"{result.entry.id} is not shown to be better than guessing, which is right in "
        f"{percent(1 / len(CLASSES[data.name]))} of cases: its interval over the test images is {percent(low, 1)} to "
        f"{percent(high, 1)}."
    )


def _speed(result: Result, journal: Journal) -> str | None:
    base = journal.complete.get(result.entry.builds_on or "")
    if base is None:
        return None
    run, other = result.runs[0], base.runs[0]
    if _device(run) != _device(other) or _images_an_epoch(run) != _images_an_epoch(other):
        return None
    here, there = (Learning(r.entry.id, r.runs[:1]).images_per_second for r in (result, base))
    if not here or not there or 1 / NOISE < here / there < NOISE:
        return None
    word = f"{here / there:.1f} times as fast as" if here > there else f"{there / here:.1f} times as slowly as"
    return (
        f"{result.entry.id} trains {word} {base.entry.id} ({here:,.0f} and {there:,.0f} training images a second, "
        "counting all that its training takes)."
    )


def _images_an_epoch(run: RunRecord) -> tuple[int, int] | None:
    return (run.data.train_size, run.data.validation_size) if run.data else None


def _device(run: RunRecord) -> tuple[str, int] | None:
    return (run.environment.device_name, run.environment.threads) if run.environment else None
