import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import create_model

from cifar_report.experiments import schema
from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.schema import Experiment, validate
from cifar_report.records import key
from cifar_report.records.key import key_facts, key_parameters, notebook_digest, run_key


def notebook(path: Path, *cells: tuple[str, str, list[str]]) -> Path:
    content = [{"cell_type": kind, "source": [source], "metadata": {"tags": tags}} for kind, source, tags in cells]
    path.write_text(json.dumps({"cells": content}))
    return path


@pytest.fixture
def base(tmp_path):
    """Everything a key is made of."""
    path = notebook(tmp_path / "a.ipynb", ("code", "epochs = 1", ["parameters"]), ("code", "train()", []))
    return {"parameters": validate({}), "notebook": path, "data_sha256": "d", "weights_sha256": None}


def changed(base, **changes):
    return key_of(**{**base, **changes}) != key_of(**base)


def key_of(parameters, notebook, data_sha256, weights_sha256):
    return run_key(parameters, key_facts(parameters, notebook, data_sha256, weights_sha256))


def test_key_changes_with_what_decides_the_result(base, tmp_path, monkeypatch):
    assert changed(base, parameters=validate({"lr": 0.1}))
    assert changed(base, parameters=validate({"seed": 1}))
    assert changed(base, data_sha256="e")
    assert changed(base, weights_sha256="w")
    code = notebook(tmp_path / "b.ipynb", ("code", "epochs = 1", ["parameters"]), ("code", "train(2)", []))
    assert changed(base, notebook=code)
    before = key_of(**base)
    monkeypatch.setattr(key, "code_digest", lambda parameters: "of other code")
    assert key_of(**base) != before


def test_key_does_not_change_with_anything_else(base, tmp_path):
    assert not changed(base, parameters=validate({"data_dir": "/x", "device": "cpu", "output_dir": "y"}))
    told = notebook(
        tmp_path / "c.ipynb",
        ("markdown", "Some text", []),
        ("code", "epochs = 5  # another default", ["parameters"]),
        ("code", "train()", []),
    )
    assert not changed(base, notebook=told)


def test_idle_parameters_do_not_count(base):
    assert not changed(base, parameters=validate({"holdout_size": 700}))
    assert not changed(base, parameters=validate({"frozen_batchnorm": "train"}))  # nothing is frozen
    assert not changed(base, parameters=validate({"init_layers": "linear"}))  # no scheme covers anything
    kaiming = {**base, "parameters": validate({"init": "kaiming_normal"})}
    assert changed(kaiming, parameters=validate({"init": "kaiming_normal", "init_layers": "linear"}))
    frozen = {"model": "resnet18", "weights": "imagenet", "trainable": "head"}
    assert changed(
        {**base, "parameters": validate(frozen)}, parameters=validate({**frozen, "frozen_batchnorm": "train"})
    )
    held_out = {**base, "parameters": validate({"validation": "holdout"})}
    assert changed(held_out, parameters=validate({"validation": "holdout", "holdout_size": 700}))


@pytest.mark.parametrize("tag", ["colab", "lesson", "show"])
def test_cells_that_teach_or_show_do_not_count(base, tmp_path, tag):
    cells = [("code", "epochs = 1", ["parameters"]), ("code", "picture()", [tag]), ("code", "train()", [])]
    assert not changed(base, notebook=notebook(tmp_path / "d.ipynb", *cells))
    cells = [("code", "epochs = 1", ["parameters"]), ("code", "model.half()", []), ("code", "train()", [])]
    assert changed(base, notebook=notebook(tmp_path / "e.ipynb", *cells))


def test_the_experiments_name_and_defaults_do_not_count(base):
    assert not changed(base, parameters=validate({"experiment": "EXP009"}))
    assert key_parameters(validate({}).result_parameters()) == {}
    assert key_parameters(validate({"lr": 0.1, "seed": 2}).result_parameters()) == {"lr": 0.1, "seed": 2}


def test_a_parameter_that_is_added_with_a_default_changes_no_key(base, monkeypatch):
    """Records from before it are read as if they had the default."""
    before = key_of(**base)
    wider_schema = create_model("Experiment", __base__=Experiment, blur=(int, 0))
    for module in (schema, key):
        monkeypatch.setattr(module, "Experiment", wider_schema)
    wider = wider_schema.model_validate({})
    assert "blur" in wider.result_parameters()
    assert key_of(**{**base, "parameters": wider}) == before
    assert key_of(**{**base, "parameters": wider_schema.model_validate({"blur": 8})}) != before


def test_defaults_stay_as_they_are():
    """A key leaves out what equals a default, so another default would give every recorded key another meaning.

    A new parameter is added here with its default. Must a default change? Then write the old value into the parameter
    files and the notebooks that rely on it, give the parameter a new name, and let the old one go.
    """
    assert Experiment.model_validate({}).result_parameters() == {
        "experiment": "EXP000",
        "seed": 0,
        "dataset": "cifar10",
        "train_limit": None,
        "test_limit": None,
        "validation": "test",
        "holdout_size": 5000,
        "fold": None,
        "folds": None,
        "model": "net",
        "weights": None,
        "trainable": "all",
        "frozen_batchnorm": "evaluate",
        "init": "default",
        "init_layers": "all",
        "whiten": False,
        "image_size": 32,
        "augment": [],
        "mix": "none",
        "normalize": "half",
        "epochs": 20,
        "batch_size": 64,
        "optimizer": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0,
        "schedule": "constant",
        "label_smoothing": 0.0,
        "lookahead": False,
        "test_time_flip": False,
        "test_time_shift": False,
        "precision": "auto",
        "compile": False,
    }


def test_digest_of_a_real_notebook_is_stable():
    path = load_catalog().family_named("baseline").notebook_path
    script = (
        "from cifar_report.records.key import notebook_digest; from pathlib import Path; "
        f"print(notebook_digest(Path({str(path)!r})))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert told == [notebook_digest(path)] * 2
