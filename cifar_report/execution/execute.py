"""Executing a plan on this machine: several runs at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import psutil
from rich.live import Live
from rich.table import Table

from cifar_report.data.download import OFFLINE
from cifar_report.execution.kernel import remove_leftovers
from cifar_report.execution.plan import PlannedRun, longest_first
from cifar_report.execution.resources import cores, default_jobs, gpus, slot_environments
from cifar_report.execution.worker import BROKEN, Worker, remove_traces
from cifar_report.experiments.errors import RequestError
from cifar_report.formatting import counted, duration
from cifar_report.records.lock import holder, is_locked
from cifar_report.records.record import RunRecord, read_history, read_progress, read_record, run_name

POLL = 0.5  # seconds between two looks at the workers


def execute_plan(plan: Sequence[PlannedRun], *, jobs: int | None = None, runs_per_gpu: int = 1) -> list[RunRecord]:
    """Execute the runs of the plan that are not complete, `jobs` at a time (default: `default_jobs`).

    A failed run is recorded and does not stop the others. A run that another process is executing is waited for, and
    executed only if it did not become complete. When interrupted, all workers are ended; what they finished is kept.
    Returns the records of the runs that were missing, of some of which another command may have executed them, and of
    those that diverged before.
    """
    missing, diverged = missing_runs(plan)
    if not missing:
        return diverged
    remove_leftovers()
    devices = () if all(run.parameters.device == "cpu" for run in missing) else gpus()
    # Of the whole plan, not of what is missing: a run has as many threads whether or not others are complete already.
    wanted = min(jobs or default_jobs(devices, runs_per_gpu), len(plan))
    slots = slot_environments(wanted, cores=cores(), gpus=devices, runs_per_gpu=runs_per_gpu)
    if len(slots) < wanted:
        room = f"{counted(len(devices), 'GPU')}, each with room for {counted(runs_per_gpu, 'run')}"
        print(f"{counted(len(slots), 'run')} at a time: {room} (--runs-per-gpu)")
    crew = _Crew(waiting=longest_first(missing) if len(slots) > 1 else list(missing), free=slots)
    records: list[RunRecord] = []
    with Live(transient=True, auto_refresh=False) as live:  # shown on a terminal only
        try:
            while crew.waiting or crew.running:
                if not (crew.free or crew.running):
                    raise RequestError("no GPU is left that works; `cifar-report doctor` examines them")
                crew.start_what_can_start()
                for record in crew.finished(POLL):
                    records.append(record)
                    print(f"[{len(records)}/{len(missing)}] {summary(record)}")
                title = f"{len(records)} of {len(missing)} done"
                live.update(table_of_running([worker for worker, _ in crew.running], title), refresh=True)
        finally:
            crew.end()
    return diverged + records


def missing_runs(plan: Sequence[PlannedRun]) -> tuple[list[PlannedRun], list[RunRecord]]:
    """The runs of the plan that are not complete; and the records of those that diverged, and would again.

    Complete ones are cleared of what killed processes left.
    """
    missing, diverged, complete = [], list[RunRecord](), 0
    for run in plan:
        state = run.state()
        if state.status == "complete":
            complete += 1
            remove_traces(run.folder)
        elif state.status == "diverged":
            diverged += filter(None, [read_record(run.folder)])
            print(f"{run.name}: diverged before, and is not trained again (remove {run.folder} to try)")
        else:
            missing.append(run)
            if state.status == "stale":
                print(f"{run.name}: its earlier result will be replaced ({state.reason})")
    others = f"{complete} complete" + (f", {len(diverged)} diverged" if diverged else "")
    print(f"{counted(len(plan), 'run')} planned, {others}, {len(missing)} to execute")
    return missing, diverged


@dataclass
class _Crew:
    """Workers, the slots they may use, and the runs that wait for one."""

    waiting: list[PlannedRun]
    free: list[dict[str, str]]
    running: list[tuple[Worker, dict[str, str]]] = field(default_factory=list)
    announced: set[str] = field(default_factory=set)

    def start_what_can_start(self) -> None:
        """Start a worker in each free slot; runs that another process holds keep waiting."""
        for run in list(self.waiting):
            if not self.free:
                return
            if is_locked(run.folder):
                if run.name not in self.announced:
                    print(f"{run.name}: {holder(run.folder)} is executing it; waiting")
                    self.announced.add(run.name)
                continue
            self.waiting.remove(run)
            slot = self.free.pop()
            # The plan has downloaded what it could: a run must not find anything else.
            self.running.append((Worker.start(run, {**os.environ, **slot, OFFLINE: "1"}), slot))

    def finished(self, seconds: float) -> list[RunRecord]:
        """Wait at most `seconds` for workers to end; return their records."""
        if not self.running:
            time.sleep(seconds)
            return []
        multiprocessing.connection.wait([worker.process.sentinel for worker, _ in self.running], timeout=seconds)
        records = []
        for worker, slot in [pair for pair in self.running if pair[0].process.exitcode is not None]:
            self.running.remove((worker, slot))
            if worker.process.exitcode == BROKEN:
                print(f"{worker.run.name}: GPU {slot['CUDA_VISIBLE_DEVICES']} does not work, and is left out")
            else:
                self.free.append(slot)
            if record := worker.result():
                records.append(record)
            else:
                self.waiting.append(worker.run)
        return records

    def end(self) -> None:
        """End the workers that still run: at once, since they go on from their last state."""
        for worker, _ in self.running:
            assert worker.process.pid is not None
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(worker.process.pid).children(recursive=True):
                    process.kill()  # the kernel first, before it has no parent
            worker.process.kill()
            worker.process.join()


def summary(record: RunRecord) -> str:
    """One line about a finished run."""
    return f"{run_name(record.experiment, record.parameters)}: {outcome(record)}, {record.seconds.total:.0f} s"


def outcome(record: RunRecord) -> str:
    """A record's result in a few words."""
    if record.status == "completed" and record.test:
        return f"{record.test.accuracy:.2%} of {record.test.total:,} test images"
    assert record.error is not None
    cell = f" in cell {record.error.cell}" if record.error.cell else ""
    return f"FAILED{cell}: {record.error.type}: {''.join(record.error.message.splitlines()[:1])}"


def table_of_running(running: Sequence[Worker], title: str) -> Table:
    """The running runs: finished epochs, validation accuracy, time elapsed, and left after the last epoch."""
    shown = Table("run", "epoch", "accuracy", "elapsed", "left", title=title)
    for worker in running:
        run, progress = worker.run, read_progress(worker.run.folder)
        # An earlier result's history stays until the first epoch's row replaces it.
        history = read_history(run.folder) if progress and progress.key == run.key else []
        accuracy = f"{history[-1].validation_accuracy:.2%}" if history else "–"
        seconds = sum(epoch.seconds for epoch in history)
        left = duration(seconds / len(history) * (run.parameters.epochs - len(history))) if history else "–"
        elapsed = duration(perf_counter() - worker.started)
        shown.add_row(run.name, f"{len(history)}/{run.parameters.epochs}", accuracy, elapsed, left)
    return shown
