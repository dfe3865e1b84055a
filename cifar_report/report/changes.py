"""What differs between two sets of results: two folders, two reports, or two experiments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy import stats

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import with_defaults
from cifar_report.formatting import counted, number
from cifar_report.journal.frames import results_frame
from cifar_report.journal.results import Journal
from cifar_report.journal.statistics import holm, mcnemar, paired_t, verdict
from cifar_report.records.predictions import Predictions, read_predictions
from cifar_report.records.record import run_folder
from cifar_report.report.layout import fragment, page_style

Pair = tuple[str, int]  # experiment and seed
METRICS = ("test_loss", "epochs", "best_epoch", "parameters", "trainable_parameters", "train_images", "train_seconds")
COLUMNS = {"experiment", "seed", "status", "correct", "test_images", "dataset", "key", "settings"}  # what is needed


@dataclass(frozen=True)
class Change:
    """What became of one run. Accuracies are fractions; `difference` is over the images that were tested on both sides.

    `p` is Holm-adjusted over all changes; `metrics` and `parameters` are those that differ, before and after.
    """

    name: str
    what: str
    before: float | None = None
    after: float | None = None
    difference: float | None = None
    p: float | None = None
    test: str = ""
    metrics: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    parameters: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """In words, by the test at 5 %; empty where nothing was tested."""
        return "" if self.p is None or self.difference is None else verdict(self.difference, self.p)

    @property
    def before_text(self) -> str:
        return "" if self.before is None else f"{100 * self.before:.2f}"

    @property
    def after_text(self) -> str:
        return "" if self.after is None else f"{100 * self.after:.2f}"


@dataclass(frozen=True)
class Side:
    """One of the two: its name, its runs as rows of `results.csv`, and the folder with their predictions, if any."""

    name: str
    rows: dict[Pair, Mapping[str, Any]]
    folder: Path | None = None

    def predictions(self, pair: Pair) -> Predictions | None:
        return read_predictions(run_folder(self.folder, *pair)) if self.folder else None


def read_side(what: str, output_dir: Path) -> Side:
    """A side from how a person names it: an experiment below `output_dir`, an output folder, a report or its table.

    Raises:
        RequestError: it is none of these, or holds no run.
    """
    path = Path(what)
    if is_experiment(what, output_dir):
        known = what.upper() in load_catalog().entries
        rows = rows_by_run(results_frame(Journal.load(output_dir, [what] if known else [])))
        here = {pair: row for pair, row in rows.items() if pair[0].upper() == what.upper()}
        side = Side(next(iter(here), (what.upper(), 0))[0], here, output_dir)
    elif (path / "runs").is_dir():
        side = Side(what, rows_by_run(results_frame(Journal.load(path))), path)
    elif (table := _table(path)).is_file():
        side = Side(what, read_results(table))
    else:
        raise RequestError(
            f"'{what}' is neither an experiment, nor a folder with runs/ or results.csv, nor a report's page or table"
        )
    if not side.rows:
        raise RequestError(f"there is no run in {what}" + (f" below {output_dir}" if side.folder == output_dir else ""))
    return side


def is_experiment(what: str, output_dir: Path) -> bool:
    """Whether a person names an experiment so: one of the catalog, or one of their own below `output_dir`."""
    if what.upper() in load_catalog().entries:
        return True
    return Path(what).name == what and (output_dir / "runs" / what.lower()).is_dir() and not Path(what).exists()


def _table(path: Path) -> Path:
    """The table of results that belongs to a report's page, folder, or table."""
    if path.suffix == ".csv":
        return path
    return (path.parent if path.suffix == ".html" else path) / "results.csv"


def read_results(table: Path) -> dict[Pair, Mapping[str, Any]]:
    """The runs of a `results.csv`.

    Raises:
        RequestError: it is not a table that a report wrote.
    """
    try:
        frame = pd.read_csv(table, dtype={"experiment": str, "key": str})
        if missing := COLUMNS - set(frame.columns):
            raise ValueError(f"it has no column '{min(missing)}'; an older version of cifar-report may have made it")
        for settings in frame["settings"]:
            json.loads(settings)
        return rows_by_run(frame)
    except (ValueError, TypeError, OSError) as error:
        raise RequestError(f"{table} is not a table of results: {error}") from None


def rows_by_run(frame: pd.DataFrame) -> dict[Pair, Mapping[str, Any]]:
    """A frame of results as its rows by experiment and seed, with `None` where a value is missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return {(row["experiment"], int(row["seed"])): row for row in rows}


def changes(before: Side, after: Side) -> list[Change]:
    """What differs, run by run: runs that came or went, and those whose results or parameters changed."""
    found = []
    for pair in sorted(before.rows.keys() | after.rows.keys()):
        old, new = before.rows.get(pair), after.rows.get(pair)
        name = f"{pair[0]} seed {pair[1]}"
        if old is None or new is None:
            row = new or old
            assert row is not None
            word = ("new" if new else "gone") + (", failed" if row["status"] == "failed" else "")
            found.append(Change(name, word, before=_accuracy(old), after=_accuracy(new)))
        elif old["key"] != new["key"] or _accuracy(old) != _accuracy(new) or old["status"] != new["status"]:
            found.append(_changed(name, old, new, before.predictions(pair), after.predictions(pair)))
    return _adjusted(found)


def _adjusted(found: list[Change]) -> list[Change]:
    """The same changes with p values Holm-adjusted for their number."""
    tested = [c for c in found if c.p is not None]
    p_values = dict(zip(map(id, tested), holm([c.p for c in tested if c.p is not None]), strict=True))
    return [replace(c, p=p_values[id(c)]) if id(c) in p_values else c for c in found]


def compare_experiments(before: Side, after: Side) -> list[Change]:
    """Two experiments: over the seeds that both have, and each seed against the same seed of the other.

    Several seeds are tested together, by a t-test paired by seed; one alone on the images that both were tested on.

    Raises:
        RequestError: they share no seed.
    """
    seeds = sorted({seed for _, seed in before.rows} & {seed for _, seed in after.rows})
    if not seeds:
        raise RequestError(f"{before.name} and {after.name} have no seed in common")
    found = []
    for seed in seeds:
        pairs = (before.name, seed), (after.name, seed)
        found.append(
            _changed(
                f"{after.name} against {before.name}, seed {seed}",
                before.rows[pairs[0]],
                after.rows[pairs[1]],
                before.predictions(pairs[0]),
                after.predictions(pairs[1]),
            )
        )
    scores = [
        (first, second)
        for seed in seeds
        if (first := _accuracy(before.rows[before.name, seed])) is not None
        and (second := _accuracy(after.rows[after.name, seed])) is not None
    ]
    if len(scores) < 2:
        return found
    return [_over_seeds(before, after, scores, found), *(replace(c, p=None, test="") for c in found)]


def _over_seeds(before: Side, after: Side, scores: Sequence[tuple[float, float]], found: Sequence[Change]) -> Change:
    """The comparison of the means; two experiments on unlike data are not tested."""
    first, second = (float(np.mean([pair[i] for pair in scores])) for i in (0, 1))
    images = min(
        float(row["test_images"]) for side in (before, after) for row in side.rows.values() if row["test_images"]
    )
    both = [c for c in found if c.before is not None and c.after is not None]
    differences = [c.difference for c in both if c.difference is not None]  # over the images that both were tested on
    alike = len(differences) == len(both)
    return Change(
        f"{after.name} against {before.name}, {len(scores)} seeds",
        "means over seeds",
        first,
        second,
        float(np.mean(differences)) if alike else None,
        paired_t([0.0] * len(differences), differences, 1 / images) if alike else None,
        f"paired t-test, {len(scores)} seeds" if alike else "not tested: other images",
        parameters={
            name: pair for name, pair in found[0].parameters.items() if all(name in c.parameters for c in found)
        },
    )


def _changed(
    name: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    old_predictions: Predictions | None,
    new_predictions: Predictions | None,
) -> Change:
    here, there = (with_defaults(json.loads(row["settings"])) for row in (new, old))
    parameters = {
        key: (there.get(key), here.get(key))
        for key in {**there, **here}
        if there.get(key) != here.get(key) and key not in ("experiment", "seed")
    }
    again = old["experiment"] == new["experiment"]
    words = {
        ("completed", "failed"): "failed now" if again else f"{new['experiment']} failed",
        ("failed", "completed"): "complete now" if again else f"{old['experiment']} failed",
        ("failed", "failed"): "failed" if again else "both failed",
    }
    same = "run again" if again else "the same parameters"
    what = words.get((old["status"], new["status"])) or ("other parameters" if parameters else same)
    metrics = {
        key: (old.get(key), new.get(key))
        for key in METRICS
        if number(old.get(key)) != number(new.get(key)) and "completed" == old["status"] == new["status"]
        if not (again and key == "train_seconds")  # which no two executions share
    }
    difference, p, test = _test(old, new, old_predictions, new_predictions)
    return Change(name, what, _accuracy(old), _accuracy(new), difference, p, test, metrics, parameters)


def _test(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    old_predictions: Predictions | None,
    new_predictions: Predictions | None,
) -> tuple[float | None, float | None, str]:
    """Difference, p value and test: McNemar's on the images they share, else Fisher's exact test on the counts."""
    before, after = _accuracy(old), _accuracy(new)
    if before is None or after is None:
        return None, None, ""
    if old["dataset"] != new["dataset"]:
        return None, None, f"not tested: on {old['dataset']} and on {new['dataset']}"
    if old_predictions is not None and new_predictions is not None:
        shared, i, j = np.intersect1d(old_predictions.index, new_predictions.index, return_indices=True)
        same = np.array_equal(old_predictions.labels[i], new_predictions.labels[j])  # else another order of images
        if len(shared) and same:
            first, second = old_predictions.correct[i], new_predictions.correct[j]
            difference = float(second.mean() - first.mean())
            return difference, mcnemar(first, second), f"McNemar, {len(shared):,} images"
    counts = [[int(row["correct"]), int(row["test_images"]) - int(row["correct"])] for row in (old, new)]
    return after - before, float(stats.fisher_exact(counts).pvalue), "Fisher's exact test on the counts"


def _accuracy(row: Mapping[str, Any] | None) -> float | None:
    if row is None or row["status"] != "completed":
        return None
    return float(row["correct"]) / float(row["test_images"])


def difference_page(before: Side, after: Side, found: list[Change]) -> str:
    """A page of its own that shows what differs."""
    title = f"{after.name} against {before.name}"
    caption = f"{counted(len(found), 'comparison')}." if found else "No difference."
    return fragment("difference.html.j2", title=title, style=Markup(page_style()), changes=found, caption=caption).html  # noqa: S704
