"""One process at a time works in a run's folder, and others say whom they wait for."""

import errno
import multiprocessing
import os
import socket
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from cifar_report.cli import main
from cifar_report.experiments.errors import RequestError
from cifar_report.records.lock import (
    LOCK,
    HeldError,
    folder_lock,
    holder,
    is_locked,
    keep_lock,
    release_lock,
    require_locks,
)
from cifar_report.records.record import run_folder


@pytest.fixture
def other_process(tmp_path):
    """A process that holds the lock of a folder."""
    code = (
        "import sys; from pathlib import Path; from cifar_report.records.lock import folder_lock\n"
        f"with folder_lock(Path({str(tmp_path / 'run')!r})): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate()


def test_a_held_lock_names_its_holder_and_is_free_afterwards(tmp_path, other_process):
    folder = tmp_path / "run"
    named = f"process {other_process.pid} on {socket.gethostname()}"
    assert is_locked(folder)
    assert holder(folder) == named
    with pytest.raises(HeldError, match=f"{named} is at work in"), folder_lock(folder, wait=0.1):
        pass
    with pytest.raises(HeldError, match=named):
        keep_lock(folder)
    other_process.communicate()
    assert not is_locked(folder)
    with folder_lock(folder):
        assert holder(folder) == f"process {os.getpid()} on {socket.gethostname()}"


def test_a_kept_lock_holds_until_it_is_released(tmp_path):
    keep_lock(tmp_path)
    keep_lock(tmp_path)  # a notebook's first cells, executed again
    assert is_locked(tmp_path)
    release_lock(tmp_path)
    release_lock(tmp_path)
    assert not is_locked(tmp_path)


def test_to_look_whether_a_folder_is_locked_fails_no_one(tmp_path):
    """Who looks holds the lock for a moment; who wants to work there waits for that long."""
    looking = FileLock(tmp_path / LOCK, thread_local=False)
    looking.acquire(timeout=0)
    timer = threading.Timer(0.05, looking.release)
    timer.start()
    with folder_lock(tmp_path):
        assert is_locked(tmp_path)
    timer.join()


def test_a_run_that_is_given_up_for_another_is_free(tmp_path):
    keep_lock(tmp_path / "first")
    keep_lock(tmp_path / "second")
    assert [is_locked(tmp_path / name) for name in ("first", "second")] == [False, True]
    release_lock(tmp_path / "second")


def _keep(folder, result):
    try:
        keep_lock(folder)
        result.put("kept")
    except HeldError:
        result.put("refused")


def test_who_works_for_the_holder_needs_no_lock(tmp_path):
    """A run's kernel is started by the process that holds the lock."""
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    with folder_lock(tmp_path):
        child = context.Process(target=_keep, args=(tmp_path, result))
        child.start()
        assert result.get(timeout=60) == "kept"
        child.join()
        (tmp_path / ".holder").write_text(f"{os.getpid()} another-machine")
        child = context.Process(target=_keep, args=(tmp_path, result))
        child.start()
        assert result.get(timeout=60) == "refused"
        child.join()


def test_a_notebook_by_hand_keeps_the_lock_until_its_run_is_complete(tiny, tmp_path):
    from cifar_report.run import Run  # not above: processes that tests start import this file, and torch takes seconds

    parameters = tiny(output_dir=str(tmp_path / "out"))
    for _ in range(2):
        run = Run.start(parameters.model_dump(), family="baseline")
        assert is_locked(run.folder)
        run.load_dataset()
        run.build_model()
        run.train()
        run.evaluate()
        run.complete()
        assert not is_locked(run.folder)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys, code):
    fcntl = pytest.importorskip("fcntl", reason="Windows has other locks")

    def refuse(*given):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RequestError, match="has no locks"), folder_lock(tmp_path):
        pass
    command = ["run", "EXP000", "--profile", "quick", "--set", "dataset=digits", "--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert f"has no locks ({os.strerror(code)})" in capsys.readouterr().err
    assert not run_folder(tmp_path / "out", "EXP000", 0).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(**more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cifar_report.records.lock.tempfile.TemporaryFile", full)
    with pytest.raises(RequestError, match=f"cannot write to {tmp_path}: No space left on device"):
        require_locks(tmp_path)
