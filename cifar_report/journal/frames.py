"""The journal as data frames: a row a run, a row an epoch. Accuracies are percentages, losses nats, times seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_report.journal.measures import curve_measures
from cifar_report.journal.work import at_full_budget, parameters_of
from cifar_report.records.record import EpochRecord, RunRecord

if TYPE_CHECKING:
    from cifar_report.journal.journal import Journal, Result

FIRST = ["experiment", "family", "seed", "fold", "status", "accuracy"]
COUNTS = ["correct", "test_images", "epochs", "best_epoch", "model_parameters", "trainable_parameters", "train_images"]


def runs_frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a run, completed or failed.

    `experiment`, `family`, `seed`, `status`; its score, what its learning curve shows (`measures`) and what it took;
    the data, weights, hardware, software and code it rests on (`other_code`: this version is not known to give it);
    then every parameter that decides a result under its own name. Of `epochs`, `dataset` and `precision` it is what was
    done, not what was asked.
    """
    rows = [_run_row(run, result) for result in results for run in (*result.runs, *result.failed)]
    # A failed run has fewer columns, and may be the first.
    columns = dict.fromkeys([*FIRST, *(name for row in sorted(rows, key=len, reverse=True) for name in row)])
    return pd.DataFrame(rows, columns=list(columns)).astype(dict.fromkeys(COUNTS if rows else (), "Int64"))


def epochs_frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row an epoch of a complete run: `experiment`, `seed`, `fold`, `epoch`, losses, accuracies, rate, seconds."""
    runs = [run for result in results for run in result.runs]
    rows = [(r.experiment, r.seed, r.parameters.get("fold"), *dict(e).values()) for r in runs for e in r.epochs]
    frame = pd.DataFrame(rows, columns=["experiment", "seed", "fold", *EpochRecord.model_fields])
    return frame.assign(**{name: 100 * frame[name] for name in ("train_accuracy", "validation_accuracy")})


def results_frame(journal: Journal) -> pd.DataFrame:
    """`results.csv`: the journal's runs, each with its experiment's figures over all seeds, in percent or points."""
    if journal.runs.empty:
        return journal.runs
    figures = pd.DataFrame([_figures(journal, result) for result in journal.results.values()])
    frame = journal.runs.loc[:, :"settings"]  # which holds the parameters
    counts = dict.fromkeys(("compared_seeds", "seeds_needed"), "Int64")
    return frame.merge(figures, on="experiment", how="left").astype(counts)


def family_frame(journal: Journal, family: str) -> pd.DataFrame:
    """The family's complete runs side by side, for a notebook to show."""
    columns = ["accuracy", "epochs", "best_epoch", "train_images", "train_seconds"]
    runs = journal.runs.reindex(columns=["experiment", "seed", "family", "status", *columns])  # where there is none
    runs = runs.query("family == @family and status == 'completed'")
    return runs.set_index(["experiment", "seed"])[columns].round(2)


def _run_row(run: RunRecord, result: Result) -> dict[str, Any]:
    test, data = run.test, run.data
    plain = test.accuracy_without_flip if test else None
    row = {
        **_of(run, experiment="experiment", family="family", seed="seed"),
        "fold": run.parameters.get("fold"),
        "status": run.status,
        "accuracy": 100 * test.accuracy if test else None,
        "views_gain": 100 * (test.accuracy - plain) if test and plain is not None else None,
        **_of(test, correct="correct", test_images="total", test_loss="loss"),
        "epochs": len(run.epochs) or None,
        "best_epoch": run.best_epoch,
        **(curve_measures(run) if run.epochs else {}),
        **_of(run.model, model_parameters="parameters", trainable_parameters="trainable_parameters"),
        **_of(data, train_images="train_size"),
        "train_seconds": run.seconds.train,
        "total_seconds": run.seconds.total,
        **_of(run, training_pflop="training_pflop", precision="precision"),
        "full_budget": at_full_budget(run) if test else None,
        **_of(data, dataset="name", data_source="source", data_sha256="sha256"),
        **_of(run.weights, weights_source="source"),
        "other_code": run in result.other_code if test else None,
        **_of(run.environment, commit="git_commit", torch="torch", device="device_name"),
        "started_at": run.started_at,
        "error": f"{run.error.type}: {run.error.message}" if run.error else None,
        "key": run.key,
        "settings": json.dumps(run.parameters),
    }
    return row | {name: value for name, value in parameters_of(run).items() if name not in row}


def _figures(journal: Journal, result: Result) -> dict[str, Any]:
    name = result.entry.id
    comparison, reproduction = journal.comparisons.get(name), journal.reproduction(name)
    return {
        "experiment": name,
        "title": result.entry.title,
        "mean_accuracy": 100 * result.accuracy if result.runs else None,
        **_ends("interval", result.interval if result.runs else None),
        "interval": result.interval_kind if result.runs else None,
        "reference_accuracy": result.entry.reference_accuracy,
        "reproduction": reproduction.verdict if reproduction else None,
        **_ends("prediction", reproduction.interval if reproduction else None),
        "substitutes": ", ".join(result.substitutes) or None,
        "builds_on": result.entry.builds_on,
        "difference": 100 * comparison.difference if comparison else None,
        **_ends("difference", comparison.interval if comparison else None),
        **_of(comparison, p_holm="p", p_equivalent="p_equivalent", verdict="verdict", test="test"),
        **_of(comparison, compared_seeds="seeds", seeds_needed="seeds_needed", unlike="caveat"),
    }


def _of(record: object, **fields: str) -> dict[str, Any]:
    """Columns with fields of a record; empty where there is none."""
    return {column: getattr(record, field, None) for column, field in fields.items()}


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_{end}": None if x is None else 100 * x for end, x in (("low", low), ("high", high))}
