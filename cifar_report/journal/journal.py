"""A journal's results, read from run folders; `runs` and `epochs` are all of them as data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_report.experiments.catalog import Entry, Family, load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import differences, full_name, shown
from cifar_report.experiments.sweep import split_sweep_name
from cifar_report.formatting import counted, grouped
from cifar_report.journal.comparison import WIDE, Comparison, Reproduction, adjusted, compare
from cifar_report.journal.frames import epochs_frame, runs_frame
from cifar_report.journal.statistics import Spread, Values, wilson_interval
from cifar_report.journal.work import at_full_budget, full_budget_parameters, images_of, parameters_of, work_of
from cifar_report.records.predictions import Predictions, read_predictions
from cifar_report.records.record import RunRecord, read_runs, recorded_folder
from cifar_report.records.verified import is_of_this_code, recorded_code

LOCAL_WEIGHTS = "weights from a local file"  # of the user's own


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
    spread: Spread | None = None  # of a run's accuracy, from all experiments of its kind

    def folder(self, run: RunRecord) -> Path:
        return recorded_folder(self.output_dir, run)

    def predictions(self, run: RunRecord) -> Predictions | None:
        """What one run predicted for its test images; `None` where that is damaged (`status` says so)."""
        return read_predictions(self.folder(run))

    @property
    def accuracies(self) -> list[float]:
        return [run.test.accuracy for run in self.runs if run.test]

    @property
    def accuracy(self) -> float:
        """Mean over seeds, a fraction."""
        return float(np.mean(self.accuracies))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over seeds; where the spread is unknown, over the test images of the one run.

        Folds share training images, so of several only the range is given.
        """
        if self.spread:
            low, high = self.spread.interval(self.accuracy, len(self.runs))
            return max(0.0, low), min(1.0, high)
        if len(self.runs) > 1:
            return min(self.accuracies), max(self.accuracies)
        test = self.runs[0].test
        assert test is not None  # a complete run has a score
        return wilson_interval(test.correct, test.total)

    @property
    def interval_kind(self) -> str:
        n = len(self.runs)
        if self.spread:
            return f"t, n = {n}, {self.spread.total_df} df"
        folds = len({run.parameters.get("fold") for run in self.runs})  # 1 where runs are no folds
        return f"range of {n} runs, {counted(folds, 'fold')}" if n > 1 else "Wilson, n = 1"

    @property
    def full_budget(self) -> bool:
        """Whether every run did the original's work."""
        return all(at_full_budget(run) for run in self.runs)

    @property
    def substitutes(self) -> list[str]:
        """What stood in for the original's data, weights and precision."""
        found = []
        for run in self.runs:
            if run.data and run.data.provenance != "official":
                names = {"cifar10": "copy of CIFAR-10", "digits": "handwritten digits", "folder": "other pictures"}
                found.append(names[run.data.name])
            if run.weights and run.weights.provenance == "local file":
                found.append(LOCAL_WEIGHTS)
            if run.precision not in (None, "float32"):
                found.append(str(run.precision))
        return list(dict.fromkeys(found))

    @property
    def mixed_code(self) -> bool:
        """Whether the seeds were trained by versions of the code that are not known to give the same."""
        return len({recorded_code(self.folder(run), run) for run in self.runs}) > 1

    @property
    def mixed_environment(self) -> bool:
        """Whether the seeds were computed with several versions of torch, or kinds of device."""
        environments = [run.environment for run in self.runs if run.environment]
        return len({(e.torch, e.device.partition(":")[0]) for e in environments}) > 1


class Journal:
    """All results below one output folder, in journal order; experiments without a run have empty results.

    Args:
        output_dir: its folder `runs` holds the records.
        experiments: which to read; none: all.
        seeds: which to read; none: all.

    Raises:
        RequestError: there is no such folder, or an experiment is unknown.
    """

    def __init__(self, output_dir: str | Path, experiments: Sequence[str] = (), seeds: Sequence[int] = ()) -> None:
        catalog, root = load_catalog(), Path(output_dir).expanduser()
        if not root.is_dir():
            raise RequestError(f"there is no folder {root} to read a journal from")
        self.output_dir, self.results = root, dict[str, Result]()
        own, experiments = _own_experiments(root), [full_name(name) for name in experiments]
        others = [name for name in experiments if name not in own]
        listed = catalog.select(others) if others or not experiments else []
        entries = {name: (catalog.entries[name], catalog.family_of[name]) for name in listed}
        # on record, of families that the catalog does not have
        self.foreign = tuple(name for name, (_, family) in own.items() if family is None)
        mine = {name: (entry, family) for name, (entry, family) in own.items() if family}
        asked = experiments or [*mine]
        entries |= {name: of for name, of in mine.items() if name in asked or of[0].builds_on in entries}
        for name, (entry, family) in entries.items():
            found = read_runs(root / "runs" / name.lower())
            records = sorted((r for r in found if not seeds or r.seed in seeds), key=lambda r: r.seed)
            complete = [r for r in records if r.status == "completed"]
            latest = work_of(max(complete, key=lambda run: run.finished_at)) if complete else None
            runs = tuple(run for run in complete if work_of(run) == latest)
            self.results[name] = Result(
                entry,
                family,
                root,
                runs,
                failed=tuple(r for r in records if r.status == "failed"),
                left_out=tuple(run for run in complete if work_of(run) != latest),
                other_code=tuple(r for r in runs if not is_of_this_code(recorded_folder(root, r), r)),
            )
        for name, result in self.complete.items():
            if result.runs[0].parameters.get("fold") is None:  # folds share images: their spread is no seed's
                self.results[name] = replace(result, spread=self.accuracy_spreads.get(name))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run, completed or failed, of an experiment's latest settings; see `frames.runs_frame`."""
        return runs_frame(self.results.values())

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row an epoch of a complete run; see `frames.epochs_frame`."""
        return epochs_frame(self.results.values())

    @cached_property
    def means(self) -> pd.DataFrame:
        """Of each complete experiment, in journal order, the means over its runs of every number in `runs`."""
        if self.runs.empty:
            return self.runs
        complete = self.runs[self.runs.status == "completed"]
        return complete.drop(columns="seed").groupby("experiment", sort=False).mean(numeric_only=True).astype(float)

    @property
    def complete(self) -> dict[str, Result]:
        """Results with at least one complete run."""
        return {name: result for name, result in self.results.items() if result.runs}

    @property
    def records(self) -> list[RunRecord]:
        """The records of the complete runs."""
        return [run for result in self.complete.values() for run in result.runs]

    @property
    def failures(self) -> list[RunRecord]:
        return [run for result in self.results.values() for run in result.failed]

    @property
    def without_cifar10(self) -> bool:
        """Whether no run is on CIFAR-10, of which statements speak."""
        runs = self.records or self.failures
        names = {run.data.name if run.data else run.parameters.get("dataset", "cifar10") for run in runs}
        return bool(names) and "cifar10" not in names

    @property
    def title(self) -> str:
        """Of its report."""
        return "What changes the score on these images?" if self.without_cifar10 else load_catalog().title

    def families(self) -> list[tuple[Family, list[Result]]]:
        """Families with their results, in reading order; families without any planned experiment are left out."""
        return [(f, results) for f in load_catalog().families if (results := self.family_results(f.name))]

    def family_results(self, name: str) -> list[Result]:
        """Results of one family, those without a run included."""
        return [result for result in self.results.values() if result.family.name == name]

    def family_runs(self, name: str) -> list[RunRecord]:
        """Complete runs of one family."""
        return [run for result in self.family_results(name) for run in result.runs]

    @cached_property
    def kinds(self) -> dict[str, tuple]:
        """Of each experiment the kind whose runs share a spread: what the network is and learns, budget, precision."""
        names, found = ("model", "weights", "trainable", "image_size", "optimizer"), {}
        for name, result in self.complete.items():
            run, parameters = result.runs[0], parameters_of(result.runs[0])
            kind = (*(str(parameters[n]) for n in names), parameters["schedule"] == "constant", run.precision)
            found[name] = (*kind, images_of(run), len(run.epochs))
        return found

    def values(self, column: str, seeds_from: int = 0) -> Values:
        """A column of `runs`, of every complete run, by experiment and by seed and fold."""
        if self.runs.empty or column not in self.runs:
            return {}
        runs = self.runs[(self.runs.status == "completed") & (self.runs.seed >= seeds_from)].dropna(subset=column)
        rows = zip(runs.experiment, runs.seed, runs.fold.where(runs.fold.notna(), 0), runs[column], strict=True)
        found = grouped((name, ((int(seed), int(fold)), float(value))) for name, seed, fold, value in rows)
        return {name: dict(values) for name, values in found.items()}

    def spreads(self, values: Values, resolution: Mapping[str, float]) -> dict[str, Spread | None]:
        """Of each experiment the spread of its group. Experiments of the same parameters count once.

        `resolution`: of each experiment the smallest difference between two of its values.
        """
        found: dict[str, Spread | None] = {}
        for members in grouped((self.kinds[name], name) for name in values).values():
            counted: dict[str, dict] = {}
            for name in members:
                counted.setdefault(repr(work_of(self.complete[name].runs[0])), {}).update(values[name])
            found |= dict.fromkeys(members, Spread.of(counted, max(resolution[name] for name in members)))
        return found

    @cached_property
    def resolution(self) -> dict[str, float]:
        """Of each experiment the smallest difference between two accuracies: one image."""
        return {name: max(1 / run.test.total for run in r.runs if run.test) for name, r in self.complete.items()}

    @cached_property
    def accuracy_spreads(self) -> dict[str, Spread | None]:
        return self.spreads(self.accuracies, self.resolution)

    @cached_property
    def accuracies(self) -> Values:
        """Fractions, by experiment and by seed and fold."""
        every = self.values("accuracy")
        return {name: {seed: value / 100 for seed, value in runs.items()} for name, runs in every.items()}

    @cached_property
    def class_accuracies(self) -> dict[str, tuple[Values, dict[str, Spread | None]]]:
        """Of each class the share of its test images that each run has right, and the spreads of this share."""
        found: dict[str, dict[str, dict]] = {}
        one: dict[tuple[str, str], float] = {}  # of a class and an experiment, the share that one image is
        for name, result in self.complete.items():
            for run in result.runs:
                predictions = result.predictions(run)
                if predictions is None or run.data is None:
                    continue
                for label in np.unique(predictions.labels):
                    right, of = predictions.correct[predictions.labels == label], run.data.class_names[label]
                    seed = run.seed, int(run.parameters.get("fold") or 0)
                    found.setdefault(of, {}).setdefault(name, {})[seed] = float(right.mean())
                    one[of, name] = max(one.get((of, name), 0.0), 1 / len(right))
        return {of: (runs, self.spreads(runs, {name: one[of, name] for name in runs})) for of, runs in found.items()}

    def reproduction(self, name: str) -> Reproduction | None:
        """The original's accuracy against ours; `None` where there is none, or the work was another's."""
        result = self.complete.get(name)
        if result is None or result.entry.reference_accuracy is None or not result.full_budget:
            return None
        substitutes, spread = tuple(result.substitutes), self.accuracy_spreads[name]
        if spread is None:
            return Reproduction("spread unknown", substitutes=substitutes)
        low, high = spread.prediction(result.accuracy, len(result.runs))
        low, high = interval = max(0.0, low), min(1.0, high)
        reference = result.entry.reference_accuracy / 100
        if low <= reference <= high:  # in a wide interval any figure would agree
            answer = "too wide to tell" if high - low > 2 * WIDE else "agrees"
        else:
            answer = "ours is above" if reference < low else "ours is below"
        return Reproduction(answer, interval, len(result.runs) == 1, substitutes)  # type: ignore[arg-type]

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """Each experiment against the one it builds on, by name; p values Holm-adjusted within the family."""
        found: dict[str, Comparison] = {}
        for _, results in self.families():
            complete = [r for r in results if r.runs]
            pairs = [(r, _compared_with(r, self.complete.get(r.entry.builds_on or ""), complete)) for r in complete]
            found |= adjusted([c for r, base in pairs if base and (c := compare(r, base, self))])
        return found


def _compared_with(result: Result, base: Result | None, results: Sequence[Result]) -> Result | None:
    """What an experiment is compared with: `base`, which it builds on.

    In a sweep of which no run of `base` differs in what is swept alone, the sweep's experiment that has the base's
    values, or else its first; `None` for that one itself.
    """
    varied, swept = split_sweep_name(result.entry.id)
    if not swept:
        return base
    own, ignored = parameters_of(result.runs[0]), ("experiment", "seed", "fold", *swept)
    alike = [r for r in results if not differences(parameters_of(r.runs[0]), own, ignored=ignored)]
    if base in alike:
        return base
    usual = full_budget_parameters(varied) or {}
    sweep = [r for r in alike if split_sweep_name(r.entry.id) == (varied, swept)]
    sweep.sort(key=lambda r: any(parameters_of(r.runs[0])[name] != usual.get(name) for name in swept))
    return sweep[0] if sweep[0] is not result else base if len(sweep) == 1 else None


def sweeps(journal: Journal, family: str) -> list[tuple[str, str, list[tuple[Any, Result]]]]:
    """The family's sweeps of one number: what they vary, the parameter, and its values with their results, in order.

    The experiment that they vary is a point where it did the same otherwise.
    """
    complete = {r.entry.id: r for r in journal.family_results(family) if r.runs}
    varied = {name: split_sweep_name(name) for name in complete}
    members = grouped(((base, names[0]), name) for name, (base, names) in varied.items() if len(names) == 1)
    found = []
    for (base, parameter), names in members.items():
        settings = {name: parameters_of(complete[name].runs[0]) for name in [*names, base] if name in complete}
        points = [
            (own[parameter], complete[name])
            for name, own in settings.items()
            if not differences(settings[names[0]], own, ignored=("experiment", "seed", "fold", parameter))
        ]
        if len(points) > 1 and all(type(value) in (int, float) for value, _ in points):
            found.append((base, parameter, sorted(points, key=lambda point: point[0])))
    return found


def _own_experiments(root: Path) -> dict[str, tuple[Entry, Family | None]]:
    """Experiments of the user's own below `root`, in the families whose notebooks ran them; sweeps by their values.

    One that is named after another, such as `EXP003-lr-0_02`, builds on it. `None`: no such family.
    """
    catalog = load_catalog()
    families = {family.name: family for family in catalog.families}
    found: dict[str, tuple[tuple, Entry, Family | None]] = {}
    for folder in sorted(path for path in (root / "runs").glob("*") if path.name.upper() not in catalog.entries):
        for run in read_runs(folder):
            base, swept = split_sweep_name(run.experiment)
            values = {name: parameters_of(run)[name] for name in swept}
            title, builds_on = run.title or "your own experiment", run.builds_on
            if base in catalog.entries and swept:
                title, builds_on = ", ".join(f"{name} = {shown(value)}" for name, value in values.items()), base
            order = [(False, v) if isinstance(v, int | float) else (True, shown(v)) for v in values.values()]
            entry = Entry(id=run.experiment, title=title, builds_on=builds_on)
            found[run.experiment] = (base, swept, order), entry, families.get(run.family)
    return {name: (entry, family) for name, (_, entry, family) in sorted(found.items(), key=lambda item: item[1][0])}


def of_equal_work(results: Sequence[Result]) -> list[list[Result]]:
    """Results on the same images for as many epochs, in groups of several: only their figures can be ranked."""
    groups = grouped(((images_of(r.runs[0]), len(r.runs[0].epochs)), r) for r in results if r.runs[0].data)
    return [group for group in groups.values() if len(group) > 1]
