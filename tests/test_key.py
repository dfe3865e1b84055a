import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.schema import validate
from cifar_report.records.key import key_facts, notebook_digest, run_key


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


def test_key_changes_with_what_decides_the_result(base, tmp_path):
    assert changed(base, parameters=validate({"lr": 0.1}))
    assert changed(base, parameters=validate({"seed": 1}))
    assert changed(base, data_sha256="e")
    assert changed(base, weights_sha256="w")
    code = notebook(tmp_path / "b.ipynb", ("code", "epochs = 1", ["parameters"]), ("code", "train(2)", []))
    assert changed(base, notebook=code)


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
    held_out = {**base, "parameters": validate({"validation": "holdout"})}
    assert changed(held_out, parameters=validate({"validation": "holdout", "holdout_size": 700}))


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
