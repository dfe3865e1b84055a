"""A table of the running runs, on a terminal; elsewhere the log is enough."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter

from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table

from cifar_report.execution.plan import PlannedRun
from cifar_report.formatting import duration
from cifar_report.records.files import HISTORY
from cifar_report.records.record import RunRecord


class Live:
    """A table below the log, refreshed by `show`."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.started: dict[str, float] = {}
        self.last_epoch: dict[str, tuple[int, float]] = {}  # finished epochs, and seconds when the last one was seen
        console = Console()
        self.display = RichLive(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Live:
        if self.display:
            self.display.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.display:
            self.display.stop()

    def show(self, running: Sequence[PlannedRun], done: Sequence[RunRecord]) -> None:
        """Show the running runs: finished epochs, validation accuracy, seconds elapsed and left."""
        if self.display is None:
            return
        table = Table("run", "epoch", "accuracy", "elapsed", "left", title=f"{len(done)} of {self.total} done")
        for run in running:
            elapsed = perf_counter() - self.started.setdefault(run.name, perf_counter())
            history = _history(run)
            accuracy = f"{float(history[-1]['validation_accuracy']):.2%}" if history else "–"
            left = self._left(run, history, elapsed)
            epoch, remaining = f"{len(history)}/{run.parameters.epochs}", "–" if left is None else duration(left)
            table.add_row(run.name, epoch, accuracy, duration(elapsed), remaining)
        self.display.update(table, refresh=True)

    def _left(self, run: PlannedRun, history: Sequence[dict[str, str]], elapsed: float) -> float | None:
        """Seconds left, by the run's own epochs; `None` before it has finished one."""
        if not history:
            return None
        count, seconds = len(history), [float(row["seconds"]) for row in history]
        if self.last_epoch.get(run.name, (0, 0.0))[0] != count:
            self.last_epoch[run.name] = count, elapsed
        left = (run.parameters.epochs - count) * sum(seconds) / count
        return max(0.0, left - (elapsed - self.last_epoch[run.name][1]))


def _history(run: PlannedRun) -> list[dict[str, str]]:
    """The finished epochs of a running run; a row that is not fully written is left out."""
    rows = []
    with suppress(OSError, KeyError, TypeError, ValueError), (run.folder / HISTORY).open(newline="") as stream:
        for row in csv.DictReader(stream):
            float(row["validation_accuracy"]), float(row["seconds"])
            rows.append(row)
    return rows
