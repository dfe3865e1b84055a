"""The table of running runs."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from cifar_report.execution import execute
from cifar_report.execution.execute import table_of_running
from cifar_report.records.files import CHECKPOINT, PROGRESS
from cifar_report.records.record import Progress, read_history

HEADER = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,lr,seconds\n"


@pytest.fixture
def run(tmp_path):
    parameters = SimpleNamespace(epochs=10)
    return SimpleNamespace(name="EXP003 seed 0", folder=tmp_path, parameters=parameters, key="key")


@pytest.fixture
def clock(monkeypatch):
    """The time that the table is told."""
    time = SimpleNamespace(now=0.0)
    monkeypatch.setattr(execute, "perf_counter", lambda: time.now)
    return time


def test_table_tells_epochs_accuracy_and_time_left(run, clock):
    def shown():
        screen = io.StringIO()
        Console(file=screen, width=120).print(table_of_running([SimpleNamespace(run=run, started=0.0)], "1 of 3 done"))
        return screen.getvalue()

    assert "1 of 3 done" in shown()
    assert re.search(r"EXP003 seed 0 +│ 0/10 +│ – +│ 0 s +│ –", shown())
    (run.folder / "history.csv").write_text(HEADER + "1,1.5,0.4,1.4,0.5,0.01,10.0\n2,1.2,0.5,1.3,0.6,0.01,14.0\n")
    assert "0/10" in shown()  # of an earlier result, without a checkpoint
    (run.folder / CHECKPOINT).touch()
    (run.folder / PROGRESS).write_text(Progress(key="key", epochs=2).model_dump_json())
    clock.now = 25.0
    assert re.search(r"2/10 +│ 60.00% +│ 25 s +│ 96 s", shown())  # eight epochs of 12 s


def test_history_is_read_while_it_is_written(run):
    assert read_history(run.folder) == []
    (run.folder / "history.csv").write_text(HEADER + "1,1.5,0.4,1.4,0.5,0.01,12.5\n2,1.2,0.5,1.")
    assert [row.epoch for row in read_history(run.folder)] == [1]  # the second is not whole
