"""The search for LeNet's settings that is on record: `python maintenance/search.py`, an hour of one core.

It is the one that the notebook of tuning writes out, with more trials, more epochs and all images. Writes every trial
to `outputs/reference/tuning/trials.csv`, and what they have in common to `search.json` beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
from execute_cell import execute_cell

from cifar_report.data.dataset import load_dataset
from cifar_report.experiments.catalog import load_experiment
from cifar_report.experiments.schema import Experiment
from cifar_report.training.environment import describe_environment

FOLDER = Path(__file__).resolve().parents[1] / "outputs" / "reference" / "tuning"
SIZES = {"trials": 40, "search_epochs": 20, "images_of_search": None}


def search(parameters: Experiment, sizes: dict[str, Any]) -> dict[str, Any]:
    """Execute the notebook's search of settings for an experiment; returns its variables."""
    line = f"{', '.join(sizes)} = {', '.join(map(repr, sizes.values()))}"
    return execute_cell("13_tuning.ipynb", "search", line, parameters=parameters, dataset=load_dataset(parameters))


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """One row a trial: its settings, its epochs, and the share of held-out images that were right after each."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            **trial.params,
            "epochs": len(trial.intermediate_values),
            "accuracy": trial.value,
            "accuracies": " ".join(f"{value:.4f}" for value in trial.intermediate_values.values()),
            "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
        }
        for trial in study.trials
    ]
    return pd.DataFrame(rows)


def importances(study: optuna.Study) -> dict[str, float]:
    """The share of the differences between trials that each setting explains, as the notebook computes it."""
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))


def main() -> None:
    """Search, and write what was found."""
    variables = search(load_experiment("EXP003", profile="reference"), SIZES)
    study, base = variables["study"], variables["base"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    trials_frame(study).to_csv(FOLDER / "trials.csv", index=False)
    facts = {
        "base": base.result_parameters(),
        "held_out": len(variables["held_out"].validation),
        "importances_after_two_epochs": importances(variables["after_two"]),
        "optuna": optuna.__version__,
        "environment": describe_environment(torch.device("cpu")).model_dump(),
    }
    (FOLDER / "search.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
