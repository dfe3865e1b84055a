"""What applies to a CPU passes there, so the script is known to work; a promise that is broken is named."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maintenance import gpu_check

SCRIPT = Path(gpu_check.__file__)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_promises_hold_here():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, cwd=SCRIPT.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("all promises hold")
    for name in ("one seed, twice", "resumed", "precisions", "two runs at once"):
        assert any(line.startswith(f"ok      {name}: ") for line in lines), done.stdout


def test_a_broken_promise_is_named(monkeypatch, capsys):
    checks = gpu_check.Checks(torch.device("cpu"))
    trained = iter([(torch.nn.Linear(2, 2), 1.0), (torch.nn.Linear(2, 2), 1.5)])
    monkeypatch.setattr(checks, "trained", lambda parameters: next(trained))
    checks.repeats()
    assert checks.failed == ["one seed, twice"]
    assert capsys.readouterr().out.startswith("FAILED  one seed, twice: weights at most")
