"""The journal's results, read from run folders: accuracies with intervals, comparisons with tests."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from cifar_report.experiments.catalog import Entry, Family, load_catalog, load_experiment, profiles
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, effective, shown, with_defaults
from cifar_report.formatting import listing
from cifar_report.journal.spread import Spread, Values, contrast
from cifar_report.journal.statistics import SIGNIFICANCE, holm, mcnemar, t_interval, verdict, wilson_interval
from cifar_report.records.predictions import Predictions, read_predictions
from cifar_report.records.record import RunRecord, read_runs, recorded_folder
from cifar_report.records.verification import code_digests, is_of_this_code

WIDE = 0.02  # half the width of a prediction interval beyond which nothing is said to agree
SPEED = ("compile", "precision")  # how fast the same work is done


@dataclass(frozen=True)
class Result:
    """One experiment: its complete runs in order of their seeds, and its failed ones."""

    entry: Entry
    family: Family
    output_dir: Path
    runs: tuple[RunRecord, ...] = ()
    failed: tuple[RunRecord, ...] = ()
    left_out: tuple[RunRecord, ...] = ()  # complete, but with other parameters, data or weights than `runs`
    other_code: tuple[RunRecord, ...] = ()  # of `runs` those that this version's code is not known to give

    def folder(self, run: RunRecord) -> Path:
        return recorded_folder(self.output_dir, run)

    @property
    def accuracies(self) -> list[float]:
        return [run.test.accuracy for run in self.runs if run.test]

    @property
    def accuracy(self) -> float:
        """Mean over seeds, a fraction."""
        return float(np.mean(self.accuracies))

    @property
    def train_seconds(self) -> float:
        """Mean over seeds."""
        return float(np.mean([run.seconds.train for run in self.runs]))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval: over seeds where there are several, else over the test images of the one run."""
        if len(self.runs) > 1:
            return t_interval(self.accuracies, self.resolution)
        test = self.runs[0].test
        assert test is not None  # a complete run has a score
        return wilson_interval(test.correct, test.total)

    @property
    def resolution(self) -> float:
        """Smallest difference between two accuracies: one image."""
        return 1 / min(run.test.total for run in self.runs if run.test)

    @property
    def full_budget(self) -> bool:
        """Whether every run did the original's work."""
        return all(at_full_budget(run) for run in self.runs)

    @property
    def substitutes(self) -> list[str]:
        """What stood in for the original's data, weights and precision."""
        found = []
        for run in self.runs:
            if run.data and not run.data.is_official:
                found.append("copy of CIFAR-10" if run.data.name == "cifar10" else "handwritten digits")
            if run.weights and run.weights.is_local:
                found.append("weights from a local file")
            if run.precision not in (None, "float32"):
                found.append(str(run.precision))
        return list(dict.fromkeys(found))

    @property
    def mixed_code(self) -> bool:
        """Whether the seeds were trained by versions of the code that are not known to give the same."""
        return len({code_digests(self.folder(run), run) for run in self.runs}) > 1

    @property
    def local_weights(self) -> bool:
        """Whether a run started from weights in a file of the user's own."""
        return any(run.weights and run.weights.is_local for run in self.runs)

    @property
    def interval_kind(self) -> str:
        n = len(self.runs)
        return f"t, n = {n} seeds" if n > 1 else "Wilson, n = 1"

    def predictions(self, run: RunRecord) -> Predictions | None:
        """What one run predicted for its test images; `None` where that is damaged (`status` says so)."""
        return read_predictions(self.folder(run))


@dataclass(frozen=True)
class Comparison:
    """One experiment against another. `difference` is a fraction; p values are Holm-adjusted within the family.

    Where it is known how much runs differ by their seed alone, methods are compared: `interval` is that of the
    difference, `p_equivalent` of its being less than the margin. Else two trained models are compared on the same
    images. `changed` names the parameters in which they differ; `caveat` says what makes the comparison unlike the one
    that the two experiments mean.
    """

    experiment: str
    base: str
    difference: float
    p: float
    test: str
    seeds: int
    changed: tuple[str, ...]
    caveat: str | None
    full_budget: bool
    interval: tuple[float, float] | None = None
    p_equivalent: float | None = None

    @property
    def verdict(self) -> str:
        """In words: of methods `better`, `worse`, `equivalent` or `open`.

        One seed speaks of two trained models, and work that is not alike of accuracies, never of methods: these are
        `higher`, `lower`, or there is `no difference shown`.
        """
        if self.p_equivalent is None or self.caveat:
            plain = verdict(self.difference, self.p)
            return {"better": "higher", "worse": "lower"}.get(plain, plain)
        if self.p_equivalent < SIGNIFICANCE:
            return "equivalent"
        return verdict(self.difference, self.p) if self.p < SIGNIFICANCE else "open"


@dataclass(frozen=True)
class Reproduction:
    """The original's single run against where one new run of ours is to be expected."""

    answer: Literal["agrees", "ours is above", "ours is below", "too wide to tell", "spread unknown"]
    interval: tuple[float, float] | None = None  # prediction interval of one run
    borrowed: bool = False  # whether the spread is that of other experiments of the network
    substitutes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """`reproduced` only where nothing stood in for the original's data, weights and precision."""
        return "reproduced" if self.answer == "agrees" and not self.substitutes else self.answer


@dataclass(frozen=True)
class Journal:
    """All results below one output folder, in journal order; experiments without a run have empty results."""

    output_dir: Path
    results: dict[str, Result] = field(default_factory=dict)

    @classmethod
    def load(cls, output_dir: str | Path, experiments: Sequence[str] = (), seeds: Sequence[int] = ()) -> Journal:
        """Read the records of the experiments (default: all) and seeds (default: all) below `output_dir/runs`."""
        catalog, root = load_catalog(), Path(output_dir)
        entries = {name: (catalog.entries[name], catalog.family_of(name)) for name in catalog.select(experiments)}
        if not experiments:
            entries |= _own_experiments(root)
        results = {}
        for name, (entry, family) in entries.items():
            assert family is not None  # selected from the catalog
            found = read_runs(root / "runs" / name.lower())
            records = sorted((r for r in found if not seeds or r.seed in seeds), key=lambda r: r.seed)
            runs, left_out = _alike([r for r in records if r.status == "completed"])
            failed = tuple(r for r in records if r.status == "failed")
            other_code = tuple(r for r in runs if not is_of_this_code(recorded_folder(root, r), r))
            results[name] = Result(entry, family, root, runs, failed, left_out, other_code)
        return cls(root, results)

    @property
    def complete(self) -> dict[str, Result]:
        """Results with at least one complete run."""
        return {name: result for name, result in self.results.items() if result.runs}

    @property
    def failures(self) -> list[RunRecord]:
        return [run for result in self.results.values() for run in result.failed]

    def families(self) -> list[tuple[Family, list[Result]]]:
        """Families with their results, in reading order; families without any planned experiment are left out."""
        grouped = [(family, self.family_results(family.name)) for family in load_catalog().families]
        return [(family, results) for family, results in grouped if results]

    def family_results(self, name: str) -> list[Result]:
        """Results of one family, those without a run included."""
        return [result for result in self.results.values() if result.family.name == name]

    def family_runs(self, name: str) -> list[RunRecord]:
        """Complete runs of one family."""
        return [run for result in self.family_results(name) for run in result.runs]

    @cached_property
    def groups(self) -> dict[str, tuple]:
        """Of each experiment the network and budget whose runs share a spread."""
        found = {}
        for name, result in self.complete.items():
            run = result.runs[0]
            settings = done(run)
            network = tuple(str(settings[key]) for key in ("model", "weights", "trainable", "image_size"))
            d = run.data
            data = (d.sha256, d.split_sha256, d.train_size, d.test_size) if d else None
            found[name] = (network, data, len(run.epochs))
        return found

    def values(self, measure: Callable[[RunRecord], float | None], seeds_from: int = 0) -> Values:
        """A figure of every complete run, by experiment and seed."""
        found = {
            name: {r.seed: value for r in result.runs if r.seed >= seeds_from and (value := measure(r)) is not None}
            for name, result in self.complete.items()
        }
        return {name: runs for name, runs in found.items() if runs}

    def spreads(self, values: Values, resolution: float) -> dict[str, Spread | None]:
        """Of each experiment the spread of its group. Experiments that repeat another count once."""
        repeated = {name for name, entry in load_catalog().entries.items() if entry.same_as in values}
        found: dict[str, Spread | None] = {}
        for group in set(self.groups.values()):
            members = [name for name in values if self.groups[name] == group]
            counted = {name: values[name] for name in members if name not in repeated}
            found |= dict.fromkeys(members, Spread.of(counted or {n: values[n] for n in members}, resolution))
        return found

    @cached_property
    def resolution(self) -> float:
        """Smallest difference between two accuracies: one image."""
        return min((result.resolution for result in self.complete.values()), default=1.0)

    @cached_property
    def accuracy_spreads(self) -> dict[str, Spread | None]:
        return self.spreads(self.accuracies, self.resolution)

    @cached_property
    def accuracies(self) -> Values:
        return self.values(lambda run: run.test.accuracy if run.test else None)

    def reproduction(self, name: str) -> Reproduction | None:
        """The original's accuracy against ours; `None` where there is none, or the work was another's."""
        result = self.complete.get(name)
        if result is None or result.entry.reference_accuracy is None or not result.full_budget:
            return None
        substitutes, spread = tuple(result.substitutes), self.accuracy_spreads[name]
        if spread is None:
            return Reproduction("spread unknown", substitutes=substitutes)
        low, high = interval = spread.prediction(result.accuracy, len(result.runs))
        reference = result.entry.reference_accuracy / 100
        if high - low > 2 * WIDE:
            answer = "too wide to tell"
        else:
            answer = "agrees" if low <= reference <= high else "ours is above" if reference < low else "ours is below"
        return Reproduction(answer, interval, len(result.runs) == 1, substitutes)  # type: ignore[arg-type]

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """Each experiment against the one it builds on, by name; p values Holm-adjusted within the family.

        An experiment that repeats another with the same parameters asks nothing, and adjusts no other's p value.
        """
        found: dict[str, Comparison] = {}
        for _, results in self.families():
            raw = []
            for result in results:
                base = self.complete.get(result.entry.builds_on or "")
                if base and result.runs and (comparison := compare(result, base, self)):
                    raw.append(comparison)
            asked = [c for c in raw if c.changed]
            adjusted = holm([c.p for c in asked])
            methods = [c for c in asked if c.p_equivalent is not None]
            equivalent = holm([c.p_equivalent for c in methods if c.p_equivalent is not None])
            p = {c.experiment: value for c, value in zip(asked, adjusted, strict=True)}
            p_equivalent = {c.experiment: value for c, value in zip(methods, equivalent, strict=True)}
            found |= {
                c.experiment: replace(
                    c, p=p.get(c.experiment, c.p), p_equivalent=p_equivalent.get(c.experiment, c.p_equivalent)
                )
                for c in raw
            }
        return found


def _own_experiments(root: Path) -> dict[str, tuple[Entry, Family]]:
    """Experiments of the user's own below `root`, in the families whose notebooks ran them."""
    catalog, found = load_catalog(), {}
    theirs = {name.lower() for name in catalog.entries}
    for folder in sorted(path for path in (root / "runs").glob("*") if path.name not in theirs):
        for record in read_runs(folder):
            entry = Entry(id=record.experiment, title="an experiment of one's own")
            found[record.experiment] = (entry, catalog.family_named(record.family))
    return found


def _alike(runs: Sequence[RunRecord]) -> tuple[tuple[RunRecord, ...], tuple[RunRecord, ...]]:
    """The runs that differ in nothing but their seed from the one that finished last, and the others."""
    if not runs:
        return (), ()
    latest = _work(max(runs, key=lambda run: run.finished_at))
    return (
        tuple(run for run in runs if _work(run) == latest),
        tuple(run for run in runs if _work(run) != latest),
    )


def done(run: RunRecord) -> dict:
    """A run's parameters, those younger than it with their defaults; as precision, what it was computed in."""
    return with_defaults(run.parameters) | ({"precision": run.precision} if run.precision else {})


def _work(run: RunRecord) -> tuple[dict, tuple[str, str] | None, str | None]:
    """What a run did, its seed aside: parameters, data with its split, and weights."""
    parameters = {n: value for n, value in effective(done(run)).items() if n != "seed"}
    data = (run.data.sha256, run.data.split_sha256) if run.data else None
    return parameters, data, run.weights.sha256 if run.weights else None


def of_equal_work(results: Sequence[Result]) -> list[list[Result]]:
    """Results of runs that learned from and were tested on the same images, for as many epochs: in groups of several.

    Only their epochs, and their accuracies, can be ranked.
    """
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        data, epochs = result.runs[0].data, len(result.runs[0].epochs)
        if data is not None:
            work = (data.sha256, data.split_sha256, data.train_size, data.test_size, epochs)
            groups.setdefault(work, []).append(result)
    return [group for group in groups.values() if len(group) > 1]


def compare(result: Result, base: Result, journal: Journal) -> Comparison | None:
    """Compare two experiments: over seeds where the spread is known, else one seed on the test images it shares.

    Returns `None` where neither is possible.
    """
    here, there = ({run.seed: run for run in r.runs} for r in (result, base))
    seeds = sorted(here.keys() & there.keys())
    pairs = [(there[seed], here[seed]) for seed in seeds] or [(base.runs[0], result.runs[0])]
    if any(base.data is None or run.data is None or base.data.sha256 != run.data.sha256 for base, run in pairs):
        return None
    names = result.entry.id, base.entry.id
    found = contrast(names[:1], names[1:], journal.accuracies, journal.accuracy_spreads, journal.groups)
    paired = found is not None
    interval = p_equivalent = None
    if found is not None:
        difference, p, interval, n = found.difference, found.p, found.interval, found.seeds
        p_equivalent = found.p_equivalent(load_catalog().margin / 100)
        how = "paired by seed" if found.paired else "Welch"
        test = f"t-test, pooled spread, {how}, n = {n} seed{'s' if n > 1 else ''}"
    else:
        before, after = base.predictions(pairs[0][0]), result.predictions(pairs[0][1])
        if before is None or after is None or not seeds:
            return None
        shared, i, j = np.intersect1d(before.index, after.index, return_indices=True)
        if len(shared) == 0:
            return None
        n, difference = 1, float(after.correct[j].mean() - before.correct[i].mean())
        p = mcnemar(before.correct[i], after.correct[j])
        test = f"McNemar, {len(shared):,} images, n = 1 seed"
    before_parameters, after_parameters = (with_defaults(run.parameters) for run in pairs[0])
    return Comparison(
        experiment=result.entry.id,
        base=base.entry.id,
        difference=difference,
        p=p,
        test=test,
        seeds=n,
        changed=tuple(
            name
            for name, value in after_parameters.items()
            if name not in ("experiment", "seed") and before_parameters.get(name) != value
        ),
        caveat=unlike(*pairs[0], paired=paired) or _mixed(result, base),
        full_budget=all(at_full_budget(run) for pair in pairs for run in pair),
        interval=interval,
        p_equivalent=p_equivalent,
    )


def _mixed(*sides: Result) -> str | None:
    """Seeds are pooled across versions of the code, but not in silence."""
    names = [side.entry.id for side in sides if side.mixed_code]
    return f"the seeds of {listing(names)} were trained by different code" if names else None


def unlike(base: RunRecord, run: RunRecord, *, paired: bool) -> str | None:
    """What makes a comparison unlike: any difference but the one between the two experiments at full budget."""
    reasons = []
    here_base, here_run = done(base), done(run)
    full_base, full_run = (full_budget_parameters(r.experiment) or with_defaults(r.parameters) for r in (base, run))
    for name in here_run:
        # Images that only one of two single runs was tested on are left out of their comparison.
        if name in ("experiment", "seed") or (name == "test_limit" and not paired):
            continue
        here = (here_base.get(name), here_run[name])
        meant = (full_base.get(name), full_run.get(name))
        if here[0] != here[1] and here != meant:
            reasons.append(f"{name} is {shown(here[0])} and {shown(here[1])}")
        elif here[0] == here[1] and meant[0] != meant[1]:
            reasons.append(f"{name} is {shown(here[0])} in both")
    if base.data and run.data and base.data.train_size != run.data.train_size and not reasons:
        reasons.append(f"trained on {base.data.train_size:,} and {run.data.train_size:,} images")
    reasons += [
        f"{r.experiment} started from random values for want of its weights" for r in (base, run) if lacks_weights(r)
    ]
    return "; ".join(reasons) or None


@cache
def full_budget_parameters(experiment: str) -> dict | None:
    """An experiment's parameters at full budget; `None` for one of the user's own, which has none."""
    try:
        return load_experiment(experiment, profile="full").result_parameters()
    except RequestError:
        return None


def lacks_weights(run: RunRecord) -> bool:
    """Whether a run was to start from pretrained weights and had none."""
    return run.parameters.get("weights") is not None and run.weights is None


def at_full_budget(run: RunRecord) -> bool:
    """Whether a run did the original's work: its parameters, on CIFAR-10, with its weights."""
    full = full_budget_parameters(run.experiment)
    if full is None or run.data is None or run.data.name != "cifar10" or lacks_weights(run):
        return False
    here = with_defaults(run.parameters)
    return all(here.get(name) == value for name, value in effective(full).items() if name not in ("seed", *SPEED))


def changed_parameters(run: RunRecord) -> dict[str, tuple[object, object]]:
    """Parameters that differ from the full budget's: name -> (full, here)."""
    full = full_budget_parameters(run.experiment) or {}
    ignored = {"seed"} if run.precision else {"seed", "precision"}
    return {k: (full[k], v) for k, v in done(run).items() if k not in ignored and k in full and full[k] != v}


def reproduce_command(run: RunRecord, family: Family) -> str:
    """The command that does a run's work again."""
    if full_budget_parameters(run.experiment) is None:  # not of the catalog
        plain = Experiment.model_validate({}).result_parameters()
        given = {name: value for name, value in run.parameters.items() if value != plain.get(name)}
        words = " ".join(f"-p {name} {shlex.quote(shown(value))}" for name, value in given.items())
        return f"papermill notebooks/{family.notebook} out.ipynb {words}"
    changes = {}
    for profile in profiles():
        usual = load_experiment(run.experiment, profile=profile).result_parameters()
        changes[profile] = {
            name: value
            for name, value in run.parameters.items()
            if name != "seed" and name in usual and usual[name] != value
        }
    profile = min(changes, key=lambda name: len(changes[name]))
    pairs = " ".join(f"{name}={shown(value)}" for name, value in changes[profile].items())
    return f"cifar-report run {run.experiment} --profile {profile} --seeds {run.seed}" + (
        f" --set {shlex.quote(pairs)}" if pairs else ""
    )
