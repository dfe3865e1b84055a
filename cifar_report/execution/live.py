"""What is going on, on a terminal: a table of the running runs. Without a terminal nothing: the log says it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from types import TracebackType

from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table

from cifar_report.execution.estimate import estimate_seconds
from cifar_report.execution.plan import PlannedRun
from cifar_report.formatting import duration
from cifar_report.records.record import RunRecord


class Live:
    """A table below the log, refreshed by `show`."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.started: dict[str, float] = {}
        self.epochs: dict[str, int] = {}  # finished ones, and when the last of them was seen to be
        self.since: dict[str, float] = {}
        self.expected: dict[str, float | None] = {}
        console = Console()
        self.display = RichLive(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Live:
        if self.display:
            self.display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.display:
            self.display.stop()

    def show(self, running: Sequence[PlannedRun], done: Sequence[RunRecord]) -> None:
        """Show the running runs: epochs, accuracy so far, time left by their finished epochs or earlier runs."""
        if self.display is None:
            return
        table = Table("run", "epoch", "accuracy", "elapsed", "left", title=f"{len(done)} of {self.total} done")
        for run in running:
            elapsed = perf_counter() - self.started.setdefault(run.name, perf_counter())
            history = _history(run)
            accuracy = f"{float(history[-1]['validation_accuracy']):.2%}" if history else "–"
            left = self._left(run, history, elapsed)
            table.add_row(
                run.name,
                f"{len(history)}/{run.parameters.epochs}",
                accuracy,
                duration(elapsed),
                "–" if left is None else duration(left),
            )
        self.display.update(table, refresh=True)

    def _left(self, run: PlannedRun, history: Sequence[dict[str, str]], elapsed: float) -> float | None:
        """Seconds left: as its own epochs went, else as earlier runs did."""
        if history:
            seconds = [float(row["seconds"]) for row in history]
            if len(history) != self.epochs.get(run.name):  # an epoch has ended just now
                self.epochs[run.name], self.since[run.name] = len(history), elapsed
            unfinished = (run.parameters.epochs - len(history)) * sum(seconds) / len(seconds)
            return max(0.0, unfinished - (elapsed - self.since[run.name]))
        expected = self.expected.setdefault(run.name, estimate_seconds(run))
        return None if expected is None else max(0.0, expected - elapsed)


def _history(run: PlannedRun) -> list[dict[str, str]]:
    """The finished epochs of a running run; a row that is just being written is not one yet."""
    rows = []
    with suppress(OSError, KeyError, TypeError, ValueError), (run.folder / "history.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            float(row["validation_accuracy"]), float(row["seconds"])
            rows.append(row)
    return rows
