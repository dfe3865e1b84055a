"""What is going on, on a terminal: a table of the running runs. Without a terminal nothing: the log says it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from time import perf_counter
from types import TracebackType

from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table

from cifar_report.pipeline.estimate import estimate_seconds
from cifar_report.pipeline.plan import PlannedRun
from cifar_report.record import RunRecord


class Live:
    """A table below the log, refreshed by `show`."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.started: dict[str, float] = {}
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
        """Show the running runs: epochs, accuracy so far, time left by earlier runs on record."""
        if self.display is None:
            return
        table = Table("run", "epoch", "accuracy", "elapsed", "left", title=f"{len(done)} of {self.total} done")
        for run in running:
            elapsed = perf_counter() - self.started.setdefault(run.name, perf_counter())
            epoch, accuracy = _progress(run)
            expected = estimate_seconds(run)
            left = "–" if expected is None else f"{max(0, expected - elapsed):.0f} s"
            table.add_row(run.name, f"{epoch}/{run.parameters.epochs}", accuracy, f"{elapsed:.0f} s", left)
        self.display.update(table, refresh=True)


def _progress(run: PlannedRun) -> tuple[int, str]:
    """Finished epochs of a running run, and its validation accuracy."""
    try:
        with (run.folder / "history.csv").open(newline="") as stream:
            last = list(csv.DictReader(stream))[-1]
        return int(last["epoch"]), f"{float(last['validation_accuracy']):.2%}"
    except (OSError, IndexError, KeyError, TypeError, ValueError):
        return 0, "–"
