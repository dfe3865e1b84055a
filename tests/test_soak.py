"""The soak notices what it is there to notice."""

import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soak

from cifar_report.execution.plan import RunState


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders with the same made-up run, and a function that sets the state of both."""
    runs = {}
    for name in ("trial", "reference"):
        folder = tmp_path / name / "runs"
        folder.mkdir(parents=True)
        np.savez(folder / "predictions.npz", logits=np.arange(4.0))
        (folder / "model.safetensors").write_bytes(b"weights")
        runs[tmp_path / name] = SimpleNamespace(name="EXP000", folder=folder, state=lambda: RunState("complete"))
    monkeypatch.setattr(soak, "planned", lambda folder: [runs[folder]])
    return tmp_path / "trial", tmp_path / "reference", runs


def test_what_is_complete_must_be_what_the_undisturbed_run_gave(folders):
    trial, reference, _ = folders
    assert soak.check(trial, reference) == 1
    np.savez(trial / "runs" / "predictions.npz", logits=np.arange(4.0) + 1e-6)
    with pytest.raises(AssertionError, match="EXP000: other logits"):
        soak.check(trial, reference)


def test_at_the_end_all_are_complete_and_nothing_is_left_behind(folders):
    trial, reference, runs = folders
    runs[trial].state = lambda: RunState("missing")
    assert soak.check(trial, reference) == 0
    with pytest.raises(AssertionError, match="EXP000 is missing"):
        soak.check(trial, reference, all_of_them=True)
    runs[trial].state = lambda: RunState("complete")
    soak.check(trial, reference, all_of_them=True)
    (trial / "runs" / ".model-left.safetensors").touch()
    with pytest.raises(AssertionError, match="in place of"):
        soak.check(trial, reference, all_of_them=True)


@pytest.mark.skipif(sys.platform != "linux", reason="ps as Linux has it")
@pytest.mark.parametrize(("seed", "whom"), [(2, "command"), (1, "process"), (4, "all")])
def test_a_command_one_of_its_processes_or_all_are_killed(seed, whom):
    script = "import subprocess; subprocess.run(['sleep', '60'])"  # goes on when its child is killed
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    while not (below := soak.descendants(process.pid)):
        pass
    assert soak.kill(process, random.Random(seed), 0.01) == f"SIGKILL to {whom}"
    assert process.returncode == (0 if whom == "process" else -9)
    left = subprocess.run(["kill", "-9", *map(str, below)], capture_output=True, check=False)
    if whom != "all":  # those wait to be buried
        assert (left.returncode == 0) == (whom == "command")  # the child outlived it
