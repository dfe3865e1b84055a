"""The search on record: it follows from its seed, and what it chose is an experiment."""

import json
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
from search import FOLDER, SIZES, importances, search, trials_frame

from cifar_report.experiments.catalog import load_experiment

RECORDED = pd.read_csv(FOLDER / "trials.csv")
FACTS = json.loads((FOLDER / "search.json").read_text(encoding="utf-8"))
SETTINGS = ["lr", "momentum", "weight_decay", "batch_size"]


def test_the_search_on_record_follows_from_its_seed(monkeypatch):
    """Told the accuracies on record in place of training, the notebook's search proposes the trials on record."""
    if optuna.__version__ != FACTS["optuna"]:
        pytest.skip(f"Optuna is {optuna.__version__}; the search on record was made with {FACTS['optuna']}")
    told = iter([float(value) for line in RECORDED["accuracies"] for value in line.split()])
    monkeypatch.setattr("cifar_report.training.loop.train_one_epoch", lambda *_: (0.0, 0.0))
    monkeypatch.setattr(
        "cifar_report.training.evaluation.evaluate", lambda *_, **__: SimpleNamespace(accuracy=next(told))
    )
    digits = load_experiment("EXP003", overrides={"dataset": "digits"})
    variables = search(digits, SIZES)
    found = trials_frame(variables["study"])
    pd.testing.assert_frame_equal(found.drop(columns="seconds"), RECORDED.drop(columns="seconds"), rtol=1e-12)
    assert next(told, None) is None
    assert importances(variables["after_two"]) == pytest.approx(FACTS["importances_after_two_epochs"])


def test_it_held_images_out_and_left_the_test_images_alone():
    base = FACTS["base"]
    held_out = base["validation"], base["holdout_size"], FACTS["held_out"]
    assert held_out == ("holdout", 5000, 5000)
    assert base["train_limit"] is None
    for name in ("model", "init", "optimizer", "augment", "schedule", "normalize"):
        assert base[name] == load_experiment("EXP003").result_parameters()[name]


def test_exp067_has_the_settings_that_it_found():
    proposed = RECORDED[1:]  # the first trial has the original's settings
    best = proposed.loc[proposed["accuracy"].idxmax()]
    chosen = load_experiment("EXP067")
    for name in SETTINGS:
        assert getattr(chosen, name) == pytest.approx(best[name], rel=5e-3), name  # to three digits
    assert not set(chosen.differences(load_experiment("EXP003"))) - {"experiment", *SETTINGS}


def test_importances_are_of_all_trials_after_two_epochs():
    assert sorted(FACTS["importances_after_two_epochs"]) == sorted(SETTINGS)
    assert sum(FACTS["importances_after_two_epochs"].values()) == pytest.approx(1)
    assert (RECORDED["epochs"] >= 2).all()
