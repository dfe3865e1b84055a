"""Results as data frames: one row a run. Accuracies are percentages."""

from __future__ import annotations

import json

import pandas as pd

from cifar_report.journal.results import Comparison, Journal, Reproduction, at_full_budget

COUNTS = (
    "correct",
    "test_images",
    "epochs",
    "best_epoch",
    "parameters",
    "trainable_parameters",
    "train_images",
    "compared_seeds",
)


def results_frame(journal: Journal) -> pd.DataFrame:
    """Every run, completed or failed: what `results.csv` holds."""
    rows = []
    for result in journal.results.values():
        for run in (*result.runs, *result.failed):
            comparison = journal.comparisons.get(run.experiment)
            reproduction = journal.reproduction(run.experiment)
            low, high = result.interval if result.runs else (float("nan"), float("nan"))
            rows.append(
                {
                    "experiment": run.experiment,
                    "family": run.family,
                    "title": result.entry.title,
                    "seed": run.seed,
                    "status": run.status,
                    "accuracy": 100 * run.test.accuracy if run.test else None,
                    "correct": run.test.correct if run.test else None,
                    "test_images": run.test.total if run.test else None,
                    "test_loss": run.test.loss if run.test else None,
                    "mean_accuracy": 100 * result.accuracy if result.runs else None,
                    "interval_low": 100 * low,
                    "interval_high": 100 * high,
                    "interval": result.interval_kind if result.runs else None,
                    "reference_accuracy": result.entry.reference_accuracy,
                    "full_budget": at_full_budget(run) if run.status == "completed" else None,
                    "reproduction": reproduction.word if reproduction else None,
                    "prediction_low": _end(reproduction, 0),
                    "prediction_high": _end(reproduction, 1),
                    "substitutes": ", ".join(result.substitutes) or None,
                    "builds_on": result.entry.builds_on,
                    "difference": 100 * comparison.difference if comparison else None,
                    "difference_low": _end(comparison, 0),
                    "difference_high": _end(comparison, 1),
                    "p_holm": comparison.p if comparison else None,
                    "p_equivalent": comparison.p_equivalent if comparison else None,
                    "verdict": comparison.verdict if comparison else None,
                    "test": comparison.test if comparison else None,
                    "compared_seeds": comparison.seeds if comparison else None,
                    "unlike": comparison.caveat if comparison else None,
                    "epochs": len(run.epochs) or None,
                    "best_epoch": run.best_epoch,
                    "parameters": run.model.parameters if run.model else None,
                    "trainable_parameters": run.model.trainable_parameters if run.model else None,
                    "train_images": run.data.train_size if run.data else None,
                    "train_seconds": run.seconds.train,
                    "dataset": run.data.name if run.data else None,
                    "data_source": run.data.source if run.data else None,
                    "weights_source": run.weights.source if run.weights else None,
                    "precision": run.precision,
                    "training_pflop": run.training_pflop,
                    "other_code": run in result.other_code if run.status == "completed" else None,
                    "device": run.environment.device_name if run.environment else None,
                    "error": f"{run.error.type}: {run.error.message}" if run.error else None,
                    "key": run.key,
                    "settings": json.dumps(run.parameters),
                }
            )
    return pd.DataFrame(rows).astype(dict.fromkeys(COUNTS if rows else (), "Int64"))


def _end(found: Comparison | Reproduction | None, which: int) -> float | None:
    """An end of an interval, in percent or points."""
    return 100 * found.interval[which] if found and found.interval else None


def family_frame(journal: Journal, family: str) -> pd.DataFrame:
    """The family's complete runs side by side, for a notebook to show."""
    rows = [
        {
            "experiment": run.experiment,
            "seed": run.seed,
            "accuracy (%)": round(100 * run.test.accuracy, 2),
            "epochs": len(run.epochs),
            "best epoch": run.best_epoch,
            "training images": run.data.train_size,
            "training (s)": round(run.seconds.train, 1),
        }
        for run in journal.family_runs(family)
        if run.test and run.data
    ]
    return pd.DataFrame(rows).set_index(["experiment", "seed"])
