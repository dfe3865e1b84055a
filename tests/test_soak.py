"""The soak notices what it is there to notice."""

import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
import soak
from records import write_run

from cifar_report.execution.plan import RunState
from cifar_report.records.record import run_folder


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders with the same made-up run, and the runs."""
    runs = {}
    for name in ("trial", "reference"):
        write_run(tmp_path / name, "EXP000")
        folder = run_folder(tmp_path / name, "EXP000", 0)
        (folder / "model.safetensors").write_bytes(b"weights")
        runs[tmp_path / name] = SimpleNamespace(name="EXP000", folder=folder, state=lambda: RunState("complete"))
    monkeypatch.setattr(soak, "planned", lambda folder: [runs[folder]])
    return tmp_path / "trial", tmp_path / "reference", runs


def test_what_is_complete_must_be_what_the_undisturbed_run_gave(folders):
    trial, reference, runs = folders
    assert soak.check(trial, reference) == {"EXP000"}
    write_run(trial, "EXP000", lucky=1)
    with pytest.raises(AssertionError, match="EXP000: other logits"):
        soak.check(trial, reference)
    write_run(trial, "EXP000", validation_losses=(1.5, 1.0, 1.0, 1.4))  # an epoch told twice
    with pytest.raises(AssertionError, match="EXP000: another record"):
        soak.check(trial, reference)
    runs[trial].state = lambda: RunState("stale")
    assert soak.check(trial, reference) == set()  # nobody calls it complete


def test_at_the_end_all_are_complete_and_nothing_is_left_behind(folders):
    trial, reference, runs = folders
    runs[trial].state = lambda: RunState("missing")
    with pytest.raises(AssertionError, match="EXP000 is missing"):
        soak.check(trial, reference, all_of_them=True)
    runs[trial].state = lambda: RunState("complete")
    soak.check(trial, reference, all_of_them=True)
    (runs[trial].folder / ".model-left.safetensors").touch()
    with pytest.raises(AssertionError, match="in place of"):
        soak.check(trial, reference, all_of_them=True)


def test_a_result_that_was_there_and_is_gone_is_lost(folders, monkeypatch, tmp_path, capsys):
    found = iter([{"EXP000"}, set()])
    monkeypatch.setattr(soak, "check", lambda *given, **more: next(found))
    monkeypatch.setattr(soak, "disturb", lambda folder, *given: folder.mkdir(exist_ok=True) or "run, SIGKILL to all")
    monkeypatch.setattr(soak, "finish", lambda words: None)
    monkeypatch.setattr(soak.random.Random, "randint", lambda *given: 2)
    monkeypatch.setattr(soak.tempfile, "mkdtemp", lambda **given: str(tmp_path))
    monkeypatch.setenv("COUNT", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert soak.main() == 1
    assert "EXP000: complete before, and not after" in capsys.readouterr().err


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
