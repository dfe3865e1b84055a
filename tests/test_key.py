import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_report import key as key_module
from cifar_report.experiment import validate
from cifar_report.key import RESULT_MODULES, key_facts, library_digest, notebook_digest, run_key

PACKAGE = Path(key_module.__file__).parent


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
    return run_key(parameters, key_facts(notebook, data_sha256, weights_sha256))


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


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the library whose digest can be taken anew."""
    copy = tmp_path / "cifar_report"
    shutil.copytree(PACKAGE, copy)
    monkeypatch.setattr(key_module, "__file__", str(copy / "key.py"))
    library_digest.cache_clear()
    yield copy
    library_digest.cache_clear()


@pytest.mark.parametrize("name", RESULT_MODULES)
def test_library_digest_changes_with_code_that_decides_the_result(package, name):
    before = library_digest()
    library_digest.cache_clear()
    (package / name).write_text((package / name).read_text() + "\nx = 1\n")
    assert library_digest() != before


def test_library_digest_ignores_comments_docstrings_layout_and_plots(package):
    before = library_digest()
    library_digest.cache_clear()
    training = package / "training.py"
    text = training.read_text()
    assert '"""Training: one plain loop."""' in text
    training.write_text(text.replace('"""Training: one plain loop."""', '"""Another text."""') + "\n\n# a remark\n")
    for name in ("report/figures.py", "report/templates/cifar_report/style.css", "cli.py"):
        (package / name).write_text((package / name).read_text() + "\n")
    assert library_digest() == before


def test_every_module_that_computes_is_among_the_result_modules():
    """What run.py imports of the library, directly or not, either computes results or is named here."""
    import ast

    plain = {"catalog.py", "errors.py", "experiment.py", "record.py", "predictions.py", "key.py", "environment.py"}
    finding = {  # what there is to work on, and where
        "backup.py",
        "lock.py",
        "memory.py",
        "weights.py",
        "data/cache.py",
        "data/download.py",
        "data/__init__.py",
        "__init__.py",
    }
    seen, todo = set(), ["run.py"]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cifar_report."):
                path = (node.module or "").removeprefix("cifar_report.").replace(".", "/")
                candidates = [f"{path}.py", *(f"{path}/{alias.name}.py" for alias in node.names)]
                todo += [c for c in candidates if (PACKAGE / c).is_file()]
    assert seen - plain - finding == set(RESULT_MODULES)


def test_digest_of_a_real_notebook_is_stable():
    path = PACKAGE.parent / "notebooks" / "00_baseline.ipynb"
    script = (
        f"from cifar_report.key import notebook_digest as d; from pathlib import Path; print(d(Path({str(path)!r})))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert told == [notebook_digest(path)] * 2
