"""Parameter overrides as papermill's users write them, from the command line and from Python."""

import ast
import os
import subprocess
import sys

import nbformat
import papermill
import pytest
from click.testing import CliRunner
from papermill.cli import papermill as command

from cifar_report.experiments.catalog import load_catalog, packaged_folder
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, from_variables

NOTEBOOK = load_catalog().family_named("initialization").notebook_path


def variables(notebook) -> dict:
    """What the kernel would hold after the parameters cell and papermill's."""
    found: dict = {}
    for cell in notebook.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            found |= {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
    return found


def given(tmp_path, *words: str) -> Experiment:
    """The parameters that the notebook would accept, with these words on papermill's command line."""
    out = tmp_path / "out.ipynb"
    done = CliRunner().invoke(command, [str(NOTEBOOK), str(out), "--prepare-only", "--no-progress-bar", *words])
    assert done.exit_code == 0, done.output
    return from_variables(variables(nbformat.read(out, as_version=4)))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-p", "epochs", "5"], "epochs", 5),
        (["-p", "epochs", "007"], "epochs", 7),
        (["-p", "lr", "1e-3"], "lr", 0.001),
        (["-y", "lr: 1e-3"], "lr", 0.001),  # to YAML this is a text
        (["-r", "lr", "1e-3"], "lr", 0.001),
        (["-p", "nesterov", "false"], "nesterov", False),  # to papermill this is a text, and true
        (["-p", "nesterov", "False"], "nesterov", False),
        (["-y", "nesterov: off"], "nesterov", False),
        (["-r", "nesterov", "false"], "nesterov", False),
        (["-p", "train_limit", "null"], "train_limit", None),
        (["-p", "train_limit", "None"], "train_limit", None),
        (["-y", "train_limit: null"], "train_limit", None),
        (["-y", "train_limit: ~"], "train_limit", None),
        (["-p", "train_limit", "100"], "train_limit", 100),
        (["-p", "augment", "[horizontal_flip, crop]"], "augment", ("horizontal_flip", "crop")),
        (["-p", "augment", "horizontal_flip"], "augment", ("horizontal_flip",)),
        (["-p", "augment", "[]"], "augment", ()),
        (["-y", "augment: [horizontal_flip, rotation]"], "augment", ("horizontal_flip", "rotation")),
        (["-p", "init", "kaiming_normal"], "init", "kaiming_normal"),
        (["-r", "experiment", "MY-001"], "experiment", "MY-001"),
        (["-p", "data_dir", "/some where/cifar"], "data_dir", "/some where/cifar"),
        (["-f", str(packaged_folder("params") / "exp005.yaml")], "init", "kaiming_normal"),
        (["-f", str(packaged_folder("params") / "exp005.yaml"), "-p", "seed", "3"], "seed", 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_overrides_on_the_command_line(tmp_path, words, name, value):
    assert getattr(given(tmp_path, *words), name) == value


@pytest.mark.parametrize(
    ("parameters", "name", "value"),
    [
        ({"epochs": 5}, "epochs", 5),
        ({"lr": 1e-3}, "lr", 0.001),
        ({"nesterov": False}, "nesterov", False),
        ({"train_limit": None}, "train_limit", None),
        ({"augment": ["horizontal_flip"]}, "augment", ("horizontal_flip",)),
        ({"init": "kaiming_uniform"}, "init", "kaiming_uniform"),
    ],
)
def test_overrides_from_python(tmp_path, parameters, name, value):
    out = tmp_path / "out.ipynb"
    notebook = papermill.execute_notebook(
        str(NOTEBOOK), str(out), parameters=parameters, prepare_only=True, progress_bar=False
    )
    assert getattr(from_variables(variables(notebook)), name) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "epochs", "2.5"], "parameter 'epochs' .* cannot be 2.5"),
        (["-p", "epochs", "true"], "parameter 'epochs' .* cannot be"),
        (["-p", "nesterov", "maybe"], "parameter 'nesterov' .* cannot be 'maybe'"),
        (["-p", "augment", "flip"], "parameter 'augment' .*allowed: horizontal_flip, rotation, crop"),
        (["-p", "init", "kaiming_norml"], "did you mean 'kaiming_normal'"),
        (["-p", "Epochs", "3"], "unknown parameter 'Epochs' .* did you mean 'epochs'"),
        (["-y", "learning_rate: 0.1"], "unknown parameter 'learning_rate'"),
        (["-p", "optimizer", "adam"], "nesterov belongs to sgd; with optimizer=adam set nesterov=false"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_papermill_would_pass_on_wrongly_is_refused(tmp_path, words, message):
    with pytest.raises(RequestError, match=message):
        given(tmp_path, *words)


def test_a_wrong_parameter_is_one_sentence_in_a_notebook(tmp_path):
    code = "from cifar_report.experiments.schema import from_variables; lr = 'banana'; from_variables(globals())"
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "--HistoryManager.enabled=False", "-c", code]
    environment = os.environ | {"IPYTHONDIR": str(tmp_path)}
    shown = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "RequestError: parameter 'lr' in the notebook's parameters cell cannot be 'banana'" in shown.stdout
    assert len(shown.stdout.strip().splitlines()) == 1
