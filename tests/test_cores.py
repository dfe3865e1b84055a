"""Cores shared by runs of several processes."""

import os
import subprocess
import sys
import time

import pytest

from cifar_report.training import cores
from cifar_report.training.cores import allowed_cores, leased, take_turns

pytestmark = pytest.mark.skipif(cores.fcntl is None, reason="needs flock, which Windows lacks")

HOLDER = """
import sys, time
from cifar_report.training import cores
with cores.leased(int(sys.argv[1])):
    print("has them", flush=True)
    while True:
        time.sleep(0.01)
        cores.take_turns()
"""


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Starts processes that hold so many cores; returns a function that starts one and waits until it has them."""
    monkeypatch.setattr(cores.tempfile, "tempdir", str(tmp_path))
    started = []

    def start(threads: int) -> subprocess.Popen:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(threads)], env=environment, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "has them\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


ALL = len(allowed_cores())


def test_who_waits_gets_the_cores_after_a_slice_and_gives_them_back(other):
    other(ALL)
    started = time.monotonic()
    with leased(ALL):
        waited = time.monotonic() - started
        assert len(cores._lease.held) == ALL
    assert 0.1 < waited < 30
    assert not cores._lease.held


def test_a_killed_run_holds_no_core(other):
    process = other(ALL)
    process.kill()
    process.wait()
    started = time.monotonic()
    with leased(ALL):
        assert time.monotonic() - started < 0.5


@pytest.mark.skipif(ALL < 2, reason="needs two cores")
def test_runs_that_fit_beside_each_other_do_not_wait(other):
    other(ALL - 1)
    started = time.monotonic()
    with leased(1):
        assert time.monotonic() - started < 0.5
        assert len(cores._lease.held) == 1


def test_alone_nothing_is_passed_on(other, monkeypatch):
    monkeypatch.setattr(cores, "SLICE", 0.0)
    with leased(ALL):
        held = list(cores._lease.held)
        take_turns()
        assert cores._lease.held == held


def test_a_run_that_waits_too_long_goes_on_without(other, monkeypatch):
    process = other(ALL)
    process.send_signal(19)  # SIGSTOP: it never gives them back
    monkeypatch.setattr(cores, "PATIENCE", 0.1)
    with leased(ALL):
        assert cores._lease.held == []


def test_leases_within_each_other_and_on_gpus_add_nothing(other):
    with leased(ALL), leased(ALL):
        assert len(cores._lease.held) == ALL
    with leased(ALL, device="cuda"):
        assert cores._lease.held == []


def test_a_folder_that_somebody_else_made_is_not_trusted(other, monkeypatch, tmp_path):
    monkeypatch.setattr(cores.os, "getuid", lambda: 12345)
    (tmp_path / "cifar-report-cores-12345").mkdir()
    with leased(1):
        assert cores._lease.held == []
