"""One experiment against another, and the original's figure against ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.schema import differences, with_defaults
from cifar_report.formatting import counted, listing, p_text, points
from cifar_report.journal.statistics import SIGNIFICANCE, Contrast, contrast, holm, mcnemar, paired_interval, verdict
from cifar_report.journal.work import unlike_because

if TYPE_CHECKING:
    from cifar_report.journal.journal import Journal, Result

WIDE = 0.02  # half the width of a prediction interval beyond which nothing is said to agree


@dataclass(frozen=True)
class Comparison:
    """One experiment against another. `difference` is a fraction; p values are Holm-adjusted within the family.

    Where it is known how much runs differ by their seed alone, methods are compared: `contrast` is their difference,
    `p_equivalent` the p value of the equivalence test. Else two trained models are compared on the same images, and
    `interval` is over images. `changed` names the parameters in which they differ; `caveat` says what makes the
    comparison unlike the one that the two experiments mean; `among` counts the family's comparisons.
    """

    experiment: str
    base: str
    difference: float
    p: float
    test: str
    seeds: int
    changed: tuple[str, ...]
    caveat: str | None
    interval: tuple[float, float]  # 95 %, of the difference
    contrast: Contrast | None = None
    p_equivalent: float | None = None
    among: int = 1

    @cached_property
    def seeds_needed(self) -> int | None:
        """Of an open comparison, how many seeds would show a difference of the margin, or equivalence if there is none.

        With 80 % power, after the correction; `None` where so many seeds left it open, or more than 1,000 are needed.
        """
        if self.verdict != "open" or self.contrast is None:
            return None
        margin, alpha = load_catalog().margin / 100, SIGNIFICANCE / self.among
        both = [self.contrast.seeds_needed(margin, alpha=alpha, equivalence=e) for e in (False, True)]
        known = [n for n in both if n]
        return max(known) if len(known) == 2 and max(known) > self.seeds else None

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `equivalent` or `open`; `slightly better`: shown to be so by less than the margin.

        Where no spread is known, or a caveat applies, accuracies are compared, not methods: `higher`, `lower` or
        `no difference shown`.
        """
        if not self.changed:
            return "the same parameters"
        if self.p_equivalent is None or self.caveat:
            return verdict(self.difference, self.p)
        small = self.p_equivalent < SIGNIFICANCE
        if self.p >= SIGNIFICANCE:
            return "equivalent" if small else "open"
        return ("slightly " if small else "") + ("better" if self.difference > 0 else "worse")

    @property
    def outcome(self) -> str:
        """The verdict, and of an open comparison how many seeds it needs."""
        return self.verdict + (f" (needs n = {self.seeds_needed})" if self.seeds_needed else "")

    @property
    def answer(self) -> str:
        """The verdict; it says so where two trained models were compared, or what is not directly comparable."""
        if self.caveat:
            return "not directly comparable"
        return self.verdict if self.contrast or not self.changed else f"of two trained models, {self.verdict}"

    def __str__(self) -> str:
        over = "" if self.contrast else f" over test images, {p_text(self.p)}"
        interval = f"{points(self.interval[0])} to {points(self.interval[1])}{over}, "
        test = interval if self.changed else ""  # the same training, done twice
        needed = f", needs {self.seeds_needed}" if self.seeds_needed else ""
        return (
            f"{self.experiment} against {self.base} {points(self.difference)} ({test}n = {self.seeds}{needed})"
            f"{f', {self.verdict} ({self.caveat})' if self.caveat else ''}"
        )


@dataclass(frozen=True)
class Reproduction:
    """Whether the original's accuracy lies in the 95 % prediction interval of one new run of ours."""

    answer: Literal["agrees", "ours is above", "ours is below", "too wide to tell", "spread unknown"]
    interval: tuple[float, float] | None = None  # prediction interval of one run
    borrowed: bool = False  # whether the spread is that of other experiments of its kind
    substitutes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """`reproduced` only where nothing stood in for the original's data, weights and precision."""
        return "reproduced" if self.answer == "agrees" and not self.substitutes else self.answer


def compare(result: Result, base: Result, journal: Journal) -> Comparison | None:
    """Compare two experiments: over seeds where the spread is known, else one seed on the test images it shares.

    Returns `None` where neither is possible.
    """
    before, after = ({(run.seed, run.parameters.get("fold") or 0): run for run in r.runs} for r in (base, result))
    seeds = sorted(before.keys() & after.keys())
    pairs = [(before[seed], after[seed]) for seed in seeds] or [(base.runs[0], result.runs[0])]
    if any(old.data is None or new.data is None or old.data.sha256 != new.data.sha256 for old, new in pairs):
        return None
    found = contrast([result.entry.id], [base.entry.id], journal.accuracies, journal.accuracy_spreads, journal.kinds)
    p_equivalent = None
    if found:
        difference, p, interval, n = found.difference, found.p, found.interval, found.seeds
        p_equivalent = found.p_equivalent(load_catalog().margin / 100)
        unit = "seed" if pairs[0][1].parameters.get("fold") is None else "fold"
        test = f"t-test, pooled spread, {'paired by seed' if found.paired else 'independent'}, n = {counted(n, unit)}"
    else:
        answers = base.predictions(pairs[0][0]), result.predictions(pairs[0][1])
        shared = answers[0].shared_with(answers[1]) if answers[0] and answers[1] and seeds else None
        if shared is None:
            return None
        first, second = shared
        n, difference, p = 1, float(second.mean() - first.mean()), mcnemar(first, second)
        interval = paired_interval(first, second)
        test = f"McNemar, {len(first):,} images, n = 1 seed"
    caveats = [
        unlike_because(*pairs[0]),
        *caveats_of_runs(result, base),
        *(a.entry.caveat for a, b in ((result, base), (base, result)) if a.entry.builds_on == b.entry.id),
    ]
    return Comparison(
        experiment=result.entry.id,
        base=base.entry.id,
        difference=difference,
        p=p,
        test=test,
        seeds=n,
        changed=tuple(differences(*(with_defaults(run.parameters) for run in pairs[0]))),
        caveat="; ".join(filter(None, caveats)) or None,
        interval=interval,
        contrast=found,
        p_equivalent=p_equivalent,
    )


def caveats_of_runs(*results: Result) -> Iterator[str]:
    """What to say where runs diverged, were tested on other images, or were trained by several versions of the code."""
    for result in results:
        same, ignored = with_defaults(result.runs[0].parameters), ("experiment", "seed", "fold")
        alike = [run for run in result.failed if not differences(with_defaults(run.parameters), same, ignored=ignored)]
        if diverged := sum(run.diverged for run in alike):
            yield f"{diverged} of {diverged + len(result.runs)} runs of {result.entry.id} diverged and are left out"
    tested = sorted({run.test.total for result in results for run in result.runs if run.test})
    if len(tested) > 1 and any(result.spread for result in results):  # of single models only the shared images are
        yield f"tested on {listing(f'{total:,}' for total in tested)} images"
    if mixed := [result.entry.id for result in results if result.mixed_code]:
        yield f"the seeds of {listing(mixed)} were trained by different code"
    other = [result.entry.id for result in results if result.other_code and not result.mixed_code]
    if other and not all(result.other_code for result in results):
        yield f"{listing(other)} {'was' if len(other) == 1 else 'were'} trained by another version of the code"


def adjusted(found: list[Comparison]) -> Mapping[str, Comparison]:
    """A family's comparisons by experiment, p values Holm-adjusted for those that ask something.

    An experiment that repeats another with the same parameters asks nothing, and adjusts no other's p value.
    """
    asked = [c for c in found if c.changed]
    p = holm({c: c.p for c in asked})
    equal = holm({c: c.p_equivalent for c in asked if c.p_equivalent is not None})
    return {
        c.experiment: replace(c, p=p.get(c, c.p), p_equivalent=equal.get(c, c.p_equivalent), among=len(asked))
        for c in found
    }
