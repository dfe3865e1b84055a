"""What differs between two folders or two reports, run by run; and between two experiments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import differences, with_defaults
from cifar_report.formatting import number
from cifar_report.journal.comparison import compare
from cifar_report.journal.frames import results_frame
from cifar_report.journal.journal import Journal
from cifar_report.journal.statistics import holm, mcnemar, verdict
from cifar_report.journal.work import parameters_of
from cifar_report.records.predictions import read_predictions
from cifar_report.records.record import run_folder, run_name

Key = tuple[Any, ...]  # of a run: experiment and seed; of a fold also which, and of how many
Row = Mapping[str, Any]
METRICS = ["test_loss", "epochs", "best_epoch", "model_parameters", "trainable_parameters", "train_images"]
NEEDED = {"experiment", "seed", "status", "correct", "test_images", "dataset", "data_sha256", "key", "settings"}


@dataclass(frozen=True)
class Change:
    """What became of one run. Accuracies are fractions; `difference` is over the images that were tested on both sides.

    `p` is Holm-adjusted over all changes, `verdict` by it, of two trained models; of two experiments that are called
    equivalent it is that of their equivalence. `metrics` and `parameters` are those that differ, before and after.
    """

    name: str
    what: str
    before: float | None = None
    after: float | None = None
    difference: float | None = None
    p: float | None = None
    test: str = ""
    verdict: str = ""  # empty where nothing was tested
    interval: tuple[float, float] | None = None  # of the difference between two experiments
    metrics: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    parameters: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def accuracies(self) -> list[str]:
        """Before and after in percent, for a table; empty where there is none."""
        return ["" if a is None else f"{100 * a:.2f}" for a in (self.before, self.after)]


@dataclass(frozen=True)
class Side:
    """One of the two: its runs as rows of `results.csv`, and the folder with their predictions, if any."""

    rows: dict[Key, Row]
    folder: Path | None = None
    left_out: int = 0  # complete runs of other parameters, data or weights than the latest of their experiment

    @classmethod
    def of(cls, journal: Journal) -> Side:
        """A side that is a journal."""
        left_out = sum(len(result.left_out) for result in journal.results.values())
        return cls(rows_by_run(results_frame(journal)), journal.output_dir, left_out)


def read_side(what: str) -> Side:
    """A side from how a person names it: an output folder, a report or its table.

    Raises:
        RequestError: it is none of these, or holds no run.
    """
    path = Path(what)
    table = path if path.suffix == ".csv" else (path.parent if path.suffix == ".html" else path) / "results.csv"
    if (path / "runs").is_dir():
        side = Side.of(Journal(path))
    elif table.is_file():
        side = Side(read_results(table))
    else:
        raise RequestError(
            f"'{what}' is neither an experiment, nor a folder with runs/ or results.csv, nor a report's page or table"
        )
    if not side.rows:
        raise RequestError(f"there is no run in {what}")
    return side


def is_experiment(what: str, output_dir: Path) -> bool:
    """Whether a person names an experiment so: one of the catalog, or one of their own below `output_dir`."""
    if what.upper() in load_catalog().entries:
        return True
    return Path(what).name == what and (output_dir / "runs" / what.lower()).is_dir() and not Path(what).exists()


def read_results(table: Path) -> dict[Key, Row]:
    """The runs of a `results.csv`.

    Raises:
        RequestError: it is not a table that a report wrote.
    """
    try:
        frame = pd.read_csv(table, dtype={"experiment": str, "key": str})
        if missing := NEEDED - set(frame.columns):
            raise ValueError(f"it has no column '{min(missing)}'; an older version of cifar-report may have made it")
        return rows_by_run(frame)
    except (ValueError, TypeError, ArithmeticError, OSError) as error:
        raise RequestError(f"{table} is not a table of results: {error}") from None


def rows_by_run(frame: pd.DataFrame) -> dict[Key, Row]:
    """A frame of results as its rows by run, with `None` where a value is missing, and settings in place of JSON."""
    found = {}
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        settings = row["settings"] = with_defaults(json.loads(row["settings"]))
        _accuracy(row)  # which a damaged row has not
        fold = () if settings["fold"] is None else (settings["fold"], settings["folds"])
        found[row["experiment"], int(row["seed"]), *fold] = row
    return found


def changes(before: Side, after: Side) -> list[Change]:
    """What differs, run by run: runs that came or went, and those whose results or parameters changed."""
    found = []
    for key in sorted(before.rows.keys() | after.rows.keys()):
        old, new = before.rows.get(key), after.rows.get(key)
        row = new or old or {}
        name = run_name(key[0], row["settings"])
        if old is None or new is None:
            what = ("new" if new else "gone") + (", failed" if row["status"] == "failed" else "")
            found.append(Change(name, what, _accuracy(old), _accuracy(new)))
        elif old["key"] != new["key"] or _accuracy(old) != _accuracy(new) or old["status"] != new["status"]:
            folders = [side.folder and run_folder(side.folder, *key) for side in (before, after)]
            found.append(_changed(name, old, new, folders))
    p = holm({c.name: c.p for c in found if c.p is not None})
    return [replace(c, p=p[c.name], verdict=verdict(c.difference or 0, p[c.name])) if c.name in p else c for c in found]


def compare_experiments(before: str, after: str, output_dir: Path) -> Change:
    """Two experiments, as the report compares them: over seeds where their spread is known, else two trained models.

    Raises:
        RequestError: they are one, one has no complete run, or they share no images or, of single runs, no seed with
            predictions.
    """
    if before.upper() == after.upper():
        raise RequestError(f"{before} cannot be compared with itself; name another experiment")
    journal = Journal(output_dir)
    results = {name.upper(): result for name, result in journal.complete.items()}
    for name in (before, after):
        if name.upper() not in results:
            raise RequestError(f"there is no complete run of {name} below {output_dir}")
    base, result = results[before.upper()], results[after.upper()]
    c = compare(result, base, journal)
    if c is None:
        raise RequestError(f"{before} and {after} cannot be compared: no images or predictions in common")
    old, new = (journal.means.loc[r.entry.id] for r in (base, result))
    return Change(
        f"{c.experiment} against {c.base}",
        f"not directly comparable: {c.caveat}" if c.caveat else "two experiments",
        base.accuracy,
        result.accuracy,
        c.difference,
        c.p_equivalent if c.verdict == "equivalent" else c.p,
        c.test,
        verdict=c.outcome,
        interval=c.interval,
        metrics=_different([*METRICS, "train_seconds"], old, new),
        parameters=differences(*(parameters_of(r.runs[0]) for r in (base, result))),
    )


def _changed(name: str, old: Row, new: Row, folders: list[Path | None]) -> Change:
    parameters, metrics = differences(old["settings"], new["settings"]), {}
    was, now = old["status"], new["status"]
    what = "failed" if was == now == "failed" else "failed now" if now == "failed" else "complete now"
    if was == now == "completed":
        what = "other parameters" if parameters else "run again"
        metrics = _different(METRICS, old, new)
    tested = _test(old, new, folders)
    return Change(name, what, _accuracy(old), _accuracy(new), *tested, metrics=metrics, parameters=parameters)


def _different(names: Iterable[str], old: Mapping, new: Mapping) -> dict[str, tuple[Any, Any]]:
    """Figures that differ as they are written, before and after."""
    return {n: (old.get(n), new.get(n)) for n in names if number(old.get(n)) != number(new.get(n))}


def _test(old: Row, new: Row, folders: list[Path | None]) -> tuple[float | None, float | None, str]:
    """Difference, p value and test: McNemar's on the images they share, else Fisher's exact test on the counts."""
    before, after = _accuracy(old), _accuracy(new)
    if before is None or after is None:
        return None, None, ""
    if old["dataset"] != new["dataset"]:
        return None, None, f"not tested: on {old['dataset']} and on {new['dataset']}"
    if old["dataset"] == "folder" and old["data_sha256"] != new["data_sha256"]:
        return None, None, "not tested: on different pictures"
    first, second = (folder and read_predictions(folder) for folder in folders)
    if first and second and (shared := first.shared_with(second)):
        right_before, right_after = shared
        apart = len(right_after) < max(old["test_images"], new["test_images"])
        test = f"McNemar, {'the ' if apart else ''}{len(right_after):,} images{' that both have' if apart else ''}"
        return float(right_after.mean() - right_before.mean()), mcnemar(right_before, right_after), test
    counts = [[int(row["correct"]), int(row["test_images"]) - int(row["correct"])] for row in (old, new)]
    return after - before, float(stats.fisher_exact(counts).pvalue), "Fisher's exact test on the counts"


def _accuracy(row: Row | None) -> float | None:
    if row is None or row["status"] != "completed":
        return None
    return float(row["correct"]) / float(row["test_images"])
