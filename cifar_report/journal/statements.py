"""What the original report says, tested on a journal's records: `statements` in `params/journal.yaml`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from cifar_report.experiments.catalog import Statement, load_catalog
from cifar_report.experiments.errors import unknown
from cifar_report.formatting import duration, grouped, listing, signed
from cifar_report.journal.comparison import caveats_of_runs
from cifar_report.journal.journal import LOCAL_WEIGHTS, Journal
from cifar_report.journal.measures import MEASURES
from cifar_report.journal.statistics import SIGNIFICANCE, Contrast, Spread, Values, contrast, holm

# Below the margin: what is said to be better is shown to be so by less than the margin, if at all.
Answer = Literal["holds", "does not hold", "below the margin", "open", "cannot be tested"]


@dataclass(frozen=True)
class TestedContrast:
    """One contrast of a statement. Figures are in the measure's written unit; p values are adjusted."""

    text: str
    relation: Literal["<", ">", "="]
    names: tuple[str, ...]  # its experiments
    margin: float
    contrast: Contrast | None
    hypothesis: tuple  # what is tested, its group first: `A > B`, `B < A` and `A = B` all ask whether the two differ
    p: float = 1.0
    p_equivalent: float = 1.0
    missing: tuple[str, ...] = ()  # experiments that are not on record
    reduced: tuple[str, ...] = ()  # those that are, but not at full budget

    @property
    def direction(self) -> Literal["higher", "lower", ""]:
        """On which side the difference is shown to lie; empty: on neither."""
        if self.contrast is None or self.p >= SIGNIFICANCE:
            return ""
        return "higher" if self.contrast.difference > 0 else "lower"

    @property
    def equivalent(self) -> bool:
        """Whether the difference is shown to be within the margin; of a stated gain that would mean nothing."""
        return self.p_equivalent < SIGNIFICANCE and "+" not in self.text

    @property
    def answer(self) -> Answer:
        """A difference that is shown counts, however small, except where the statement says that there is none."""
        if self.relation == "=":
            return "holds" if self.equivalent else "does not hold" if self.direction else "open"
        if self.direction:
            return "holds" if (self.direction == "higher") == (self.relation == ">") else "does not hold"
        return "below the margin" if self.equivalent else "open"


@dataclass(frozen=True)
class Finding:
    """A statement, what these records say of it, and on what grounds."""

    statement: Statement
    answer: Answer
    reason: str
    tested: tuple[TestedContrast, ...] = ()
    lacks_runs: bool = False  # whether it is open because runs are missing, or not at full budget

    @property
    def reasons(self) -> list[str]:
        """The grounds, apart where there are several comparisons."""
        return self.reason.split("; ") if len(self.tested) > 1 else [self.reason]

    def __str__(self) -> str:
        return f'"{self.statement.says}" {self.answer}: {self.reason}'


def family_findings(journal: Journal, family: str) -> list[Finding]:
    """The statements that experiments of a family test."""
    names = {entry.id for entry in load_catalog().family_named(family).experiments}
    return [finding for finding in findings(journal) if names & experiments_in(*subjects(finding.statement))]


def subjects(statement: Statement) -> tuple[str, ...]:
    """The contrasts of a statement, or the experiments whose figures it is about."""
    return (*statement.contrasts, *statement.figures, *statement.at_least)


def experiments_in(*parts: str) -> set[str]:
    """The experiments that parts of statements name."""
    return load_catalog().entries.keys() & " ".join(parts).split()


def findings(journal: Journal) -> list[Finding]:
    """Every statement, judged. p values are Holm-adjusted within each group of `_group`, a hypothesis counting once."""
    check_measures()
    statements = load_catalog().statements
    tested = [[_tested(journal, s, text) for text in s.contrasts] for s in statements]
    every = [t for several in tested for t in several]
    p, p_equivalent = dict[tuple, float](), dict[tuple, float]()
    for known in grouped((t.hypothesis[0], (t, t.contrast)) for t in every if t.contrast).values():
        p |= holm({t.hypothesis: c.p for t, c in known})
        p_equivalent |= holm({(t.hypothesis, t.margin): c.p_equivalent(t.margin) for t, c in known})
    counts = Counter(of for of, *_ in {t.hypothesis for t in every})
    found = []
    for s, several in zip(statements, tested, strict=True):
        judged = (
            replace(t, p=p[t.hypothesis], p_equivalent=p_equivalent[t.hypothesis, t.margin]) if t.contrast else t
            for t in several
        )
        found.append(_finding(journal, s, tuple(judged), SIGNIFICANCE / max(1, counts[_group(s)])))
    return found


def check_measures() -> None:
    """Refuse a statement on a measure that does not exist."""
    if wrong := {s.measure for s in load_catalog().statements} - MEASURES.keys():
        raise unknown("measure", min(wrong), MEASURES, "params/journal.yaml", see=", ".join(MEASURES))


def _group(statement: Statement) -> tuple[bool, str]:
    """Planned contrasts, and those that our records suggested (post hoc), apart; of ours, those of each family."""
    about = experiments_in(*subjects(statement))
    families = [f.name for f in load_catalog().families if {e.id for e in f.experiments} & about]
    return statement.post_hoc, families[-1] if statement.ours and families else ""


def _tested(journal: Journal, statement: Statement, text: str) -> TestedContrast:
    relation = next(sign for sign in "<>=" if sign in text)
    sides, _, offset = text.partition("+")
    above, below = (side.split() for side in sides.split(relation))
    names = tuple(dict.fromkeys([*above, *below]))
    values, spreads = _values(journal, statement.measure, statement.seeds_from)
    found = contrast(above, below, values, spreads, journal.kinds)
    found = found and replace(found, difference=found.difference - float(offset or 0))
    reduced = _reduced(journal, names)
    asked = (tuple(above), tuple(below), offset) if offset else frozenset({frozenset(above), frozenset(below)})
    return TestedContrast(
        text=text,
        relation=relation,  # type: ignore[arg-type]
        names=names,
        margin=statement.margin or load_catalog().margin,
        contrast=None if reduced else found,
        hypothesis=(_group(statement), asked, statement.measure, statement.seeds_from),
        missing=tuple(name for name in names if name not in values and name not in reduced),
        reduced=tuple(reduced),
    )


@lru_cache(maxsize=32)  # many statements are of one measure
def _values(journal: Journal, measured: str, seeds_from: int) -> tuple[Values, Mapping[str, Spread | None]]:
    """A measure of runs from a seed on, and its spreads, of all runs."""
    measure = MEASURES[measured]
    every = journal.values(measure.column)
    steps = {name: measure.step or 100 * journal.resolution[name] for name in every}
    exact = {name: Spread(step, 1000, step, 1000) for name, step in steps.items()}
    spreads = exact if measure.exact else journal.spreads(every, steps)
    return journal.values(measure.column, seeds_from), spreads


UNKNOWN = "spread unknown: only one run of {}"


def _reduced(journal: Journal, names: Iterable[str]) -> list[str]:
    """The experiments that are on record, but not at full budget: of them nothing is said."""
    return [name for name in names if name in journal.complete and not journal.complete[name].full_budget]


def _caveats(journal: Journal, names: Iterable[str]) -> Iterator[str]:
    """What makes the runs of a statement unlike, beside what it is about."""
    results = [journal.complete[name] for name in dict.fromkeys(names) if name in journal.complete]
    precisions = {run.precision for result in results for run in result.runs}
    if len(precisions) > 1:
        yield f"computed in {listing(sorted(map(str, precisions)))}"
    yield from caveats_of_runs(*results)
    if any(LOCAL_WEIGHTS in result.substitutes for result in results):
        yield LOCAL_WEIGHTS
    if mixed := [result.entry.id for result in results if result.mixed_environment]:
        yield f"the seeds of {listing(mixed)} used different versions of torch or devices"


def _finding(journal: Journal, statement: Statement, tested: tuple[TestedContrast, ...], alpha: float) -> Finding:
    if statement.untested:
        return Finding(statement, "cannot be tested", statement.untested)
    if statement.figures or statement.at_least:
        return _bounds(journal, statement)
    answer = _joint([t.answer for t in tested])
    missing, reduced = (dict.fromkeys(n for t in tested for n in getattr(t, why)) for why in ("missing", "reduced"))
    reasons = [_words(t, journal, MEASURES[statement.measure].unit) for t in tested if not t.missing and not t.reduced]
    if missing:
        later = f" from seed {statement.seeds_from}" if statement.seeds_from else ""
        reasons.append(f"not on record{later}: {listing(missing)}")
    if reduced:
        reasons.append(f"not at full budget: {listing(reduced)}")
    if answer == "open":
        reasons += _to_decide(journal, statement, tested, alpha)
    reasons += _caveats(journal, [name for t in tested if not t.missing and not t.reduced for name in t.names])
    reason = "; ".join(filter(None, dict.fromkeys([*reasons, statement.caveat])))
    return Finding(statement, answer, reason, tested, lacks_runs=answer == "open" and bool(missing or reduced))


def _words(t: TestedContrast, journal: Journal, unit: str) -> str:
    if t.contrast is None:
        single = [name for name in t.names if len(journal.complete[name].runs) == 1]
        return f"{t.text}: {UNKNOWN.format(listing(single or ['each']))}"
    offset = float(t.text.partition("+")[2] or 0)
    word: str = t.direction or "open"
    if t.equivalent:
        word = f"slightly {word}, by less than {t.margin:g}" if t.direction else f"equivalent within {t.margin:g}"
    digits, figures = 2 if t.margin >= 0.1 else 3, (t.contrast.difference, *t.contrast.interval)
    difference, low, high = (signed(offset + figure, digits) for figure in figures)
    figure = f"{difference} ({low} to {high}) {unit}" if low != high else f"{difference} {unit}"
    return f"{t.text}: {figure}, {word}, n = {t.contrast.seeds}"


def _to_decide(journal: Journal, statement: Statement, tested: Sequence[TestedContrast], alpha: float) -> list[str]:
    """How many seeds would show a difference of the margin, or that there is none, and what they would cost."""
    undecided, needed, names = [t for t in tested if t.answer == "open"], 0, dict[str, None]()
    what, else_ = f"a difference of the margin ({undecided[0].margin:g})", "this one may be smaller"
    if undecided[0].relation == "=":
        what, else_ = "equivalence", "there may be a difference"
    for t in undecided:
        if t.contrast is None:
            return []
        n = t.contrast.seeds_needed(t.margin, alpha=alpha, equivalence=t.relation == "=")
        if n is None:
            return ["more than 1,000 seeds would be needed"]
        if n > t.contrast.seeds:
            needed, names = max(needed, n), names | dict.fromkeys(t.names)
    if not needed:
        return [f"its seeds suffice to show {what} with 80 % power: {else_}"]
    values, _ = _values(journal, statement.measure, statement.seeds_from)
    common = Counter(seed for name in names for seed in values[name]).most_common(needed)  # those that most have
    seconds = 0.0
    for name in names:
        runs = journal.complete[name].runs
        missing = needed - sum(seed in values[name] for seed, _ in common)
        seconds += missing * sum(run.seconds.total for run in runs) / len(runs)
    return [f"{needed} seeds would show {what} with 80 % power, {duration(math.ceil(seconds))} more of training"]


def _bounds(journal: Journal, statement: Statement) -> Finding:
    """Whether the original's figures lie where one new run of ours is expected, or our means above a bound."""
    values, spreads = _values(journal, statement.measure, statement.seeds_from)
    measure, answers, reasons, caveats, lacking = MEASURES[statement.measure], [], [], list[str](), False
    every = [n for n, entry in load_catalog().entries.items() if entry.reference_accuracy and not entry.same_as]
    originals = {name: journal.complete[name] for name in every if name in journal.complete}
    on_cifar10 = [n for n, r in originals.items() if r.runs[0].data and r.runs[0].data.name == "cifar10"]
    for word, bound in (statement.figures or statement.at_least).items():
        best = word == "best"
        name = max(on_cifar10, key=lambda n: journal.complete[n].accuracy, default="") if best else word
        spread, runs = spreads.get(name), list(values.get(name, {}).values())
        reduced = not best and bool(_reduced(journal, [name]))
        unit = "%" if measure.column.endswith("accuracy") else measure.unit
        mean, n = sum(runs) / max(1, len(runs)), f"n = {len(runs)}"
        if not runs or reduced or (spread is None and not best):
            answers.append("open")
            lacking |= reduced or not runs
            missing = f"not on record: {name or 'any run on CIFAR-10'}"
            single = f"{name}: {mean:.1f} {unit}, {UNKNOWN.format(name)}"
            reasons.append(missing if not runs else f"not at full budget: {name}" if reduced else single)
            continue
        caveats += _caveats(journal, [name])
        if statement.figures and spread:
            low, high = spread.prediction(mean, len(runs))
            inside = low <= bound <= high
            wide = inside and high - low > 2 * measure.wide
            answers.append("open" if wide else "holds" if inside else "does not hold")
            reasons.append(
                f"{name}: ours {mean:.1f} {unit}, the original's {bound:g}; one new run of ours {low:.1f} to "
                f"{high:.1f}, {n}{', too wide to tell' if wide else ''}"
            )
            continue
        if best:  # even one run shows that it can be had
            result = journal.complete[name]
            mean, low, high = (100 * share for share in (result.accuracy, *result.interval))
            n = result.interval_kind
        elif spread:
            low, high = spread.interval(mean, len(runs))
        everything = not best or all(name in originals and originals[name].full_budget for name in every)
        answers.append("holds" if low >= bound else "does not hold" if high < bound and everything else "open")
        of = f"{name}, the best of {len(on_cifar10)} by test accuracy," if best else name
        figure = f"{mean:.2f} ({low:.2f} to {high:.2f}) {unit}, {n}".replace("-", "\N{MINUS SIGN}")
        reasons.append(f"{of} {figure}")
        if answers[-1] == "open" and not everything:
            reasons.append("not everything is on record at full budget")
            lacking = True
        elif answers[-1] == "open":
            reasons.append(f"{bound:g} lies in this interval")
    answer, reason = _joint(answers), "; ".join(filter(None, dict.fromkeys([*reasons, *caveats, statement.caveat])))
    return Finding(statement, answer, reason, lacks_runs=lacking and answer == "open")


def _joint(answers: Sequence[str]) -> Answer:
    """Several parts hold together, or not at all."""
    decisive: tuple[Answer, ...] = ("does not hold", "open", "below the margin")
    return next((answer for answer in decisive if answer in answers), "holds")
