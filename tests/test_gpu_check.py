"""What applies to a CPU passes there, so the script is known to work; a promise that is broken is named."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cifar_report.training.loop import Training
from maintenance import gpu_check

SCRIPT = Path(gpu_check.__file__)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_promises_hold_here():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, cwd=SCRIPT.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("all promises hold")
    for name in ("one seed, twice", "resumed", "precisions of fastnet", "precisions of lenet", "two runs at once"):
        assert any(line.startswith(f"ok      {name}: ") for line in lines), done.stdout


def test_a_broken_promise_is_named(monkeypatch, capsys):
    checks = gpu_check.Checks(torch.device("cpu"))
    monkeypatch.setattr(gpu_check, "build_model", lambda parameters: (torch.nn.Linear(2, 2), None, None))
    monkeypatch.setattr(checks, "trained", lambda parameters: (torch.nn.Linear(2, 2), 1.0))
    checks.repeats()
    assert checks.failed == ["one seed, twice"]
    assert capsys.readouterr().out.startswith("FAILED  one seed, twice: weights ")


@pytest.mark.parametrize("lost", [None, "optimizer", "order", "augmentation", "generator"])
def test_a_state_that_is_not_restored_is_noticed_where_bits_may_differ(lost, tmp_path, monkeypatch):
    checks = gpu_check.Checks(torch.device("cpu"))
    checks.exact = False  # as on a GPU
    restore = Training.load_state_dict

    def forget(training, state):
        fresh = training.state_dict()
        restore(training, {**state, **({lost: fresh[lost]} if lost else {})})
        if lost == "generator":
            torch.manual_seed(7)

    monkeypatch.setattr(Training, "load_state_dict", forget)
    checks.resumes(tmp_path)
    assert checks.failed == (["resumed"] if lost else [])
