"""Executing a plan: each run is one papermill execution of its family's notebook, in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from cifar_report.data.download import OFFLINE
from cifar_report.pipeline.estimate import longest_first
from cifar_report.pipeline.live import Live
from cifar_report.pipeline.plan import PlannedRun
from cifar_report.pipeline.resources import cores, gpus, slot_environments
from cifar_report.record import ErrorRecord, RunRecord, SecondsRecord, now, read_record, write_record

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext  # Windows has no fork server

# The kernel of this very environment, whatever kernels the user has installed elsewhere.
KERNEL_ENVIRONMENT = {"JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
LOG = ".log"  # what a worker and its kernel print, kept only if they die
BUSY = 75  # a worker's exit code where another process executes the same run
POLL = 0.5  # seconds between two looks at the workers


def execute_plan(
    plan: Sequence[PlannedRun], *, jobs: int = 1, runs_per_gpu: int = 1, say: Callable[[str], None] = print
) -> list[RunRecord]:
    """Execute the runs of the plan that are not complete, `jobs` at a time.

    A failed run is recorded and does not stop the others. A run that another process is executing is waited for, and
    executed only if it did not become complete. When interrupted, all workers are ended; what they finished is kept.

    Returns:
        the records of the runs executed here, completed or failed.
    """
    missing = [run for run in plan if not run.is_complete()]
    say(f"{len(plan)} runs planned, {len(plan) - len(missing)} complete, {len(missing)} to execute")
    if not missing:
        return []
    slots = slot_environments(min(jobs, len(missing)), cores=cores(), gpus=gpus(), runs_per_gpu=runs_per_gpu)
    crew = _Crew(waiting=longest_first(missing) if len(slots) > 1 else list(missing), free=slots, say=say)
    records: list[RunRecord] = []
    with Live(len(missing)) as live:
        try:
            while crew.waiting or crew.running:
                crew.start_what_can_start()
                for run in crew.finished(POLL):
                    record = read_record(run.folder)
                    assert record is not None  # a worker leaves one, and for a dead worker the crew did
                    records.append(record)
                    say(f"[{len(records)}/{len(missing)}] {run.name}: {outcome(record)}, {record.seconds.total:.0f} s")
                live.show([worker.run for worker in crew.running], records)
        finally:
            crew.end()
    return records


@dataclass
class _Worker:
    run: PlannedRun
    process: BaseProcess
    slot: dict[str, str]
    started_at: str
    clock: float = field(default_factory=perf_counter)


@dataclass
class _Crew:
    """Workers, the slots they may use, and the runs that wait for one."""

    waiting: list[PlannedRun]
    free: list[dict[str, str]]
    say: Callable[[str], None]
    running: list[_Worker] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def start_what_can_start(self) -> None:
        """Start a worker in each free slot; runs that another process holds keep waiting."""
        for run in list(self.waiting):
            if not self.free:
                return
            if _is_locked(run):
                if run.name not in self.told:
                    self.say(f"{run.name}: another process is executing it; waiting")
                    self.told.add(run.name)
                continue
            self.waiting.remove(run)
            slot = self.free.pop()
            # What could be fetched was fetched for the plan: a run must not decide otherwise.
            environment = {**os.environ, **slot, OFFLINE: "1"}
            process = _context().Process(target=_work, args=(run, environment), name=run.name)
            process.start()
            self.running.append(_Worker(run, process, slot, now()))

    def finished(self, seconds: float) -> list[PlannedRun]:
        """Wait at most so long for workers to end; return their runs, each with a record on disk."""
        if not self.running:
            time.sleep(seconds)
            return []
        multiprocessing.connection.wait([worker.process.sentinel for worker in self.running], timeout=seconds)
        ended = [worker for worker in self.running if worker.process.exitcode is not None]
        done = []
        for worker in ended:
            self.running.remove(worker)
            self.free.append(worker.slot)
            if worker.process.exitcode == BUSY:
                self.waiting.append(worker.run)
                continue
            if worker.process.exitcode != 0 and not worker.run.is_complete():
                _record_failure(worker.run, _death(worker), worker.started_at, worker.clock)
            done.append(worker.run)
        return done

    def end(self) -> None:
        """End the workers that still run: at once, since every epoch they finished is on disk."""
        for worker in self.running:
            assert worker.process.pid is not None
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(worker.process.pid).children(recursive=True):
                    process.kill()  # the kernel first, before it has no parent
            worker.process.kill()
            worker.process.join()


def _context() -> ForkServerContext | SpawnContext:
    """Processes forked from a server that has papermill imported; where there is no fork, plain new ones."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["papermill", "cifar_report.pipeline.execute"])
    return context


def _lock(run: PlannedRun) -> FileLock:
    run.folder.mkdir(parents=True, exist_ok=True)
    return FileLock(run.folder / ".lock")


def _is_locked(run: PlannedRun) -> bool:
    try:
        with _lock(run).acquire(blocking=False):
            return False
    except Timeout:
        return True


def _work(run: PlannedRun, environment: dict[str, str]) -> None:
    """What a worker does: execute one run, unless another process does so or has done so."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is the parent's business
        _end_with(os.getppid())
    os.environ.clear()  # the fork server's may be older
    os.environ.update(environment)
    try:
        with _lock(run).acquire(blocking=False):
            if not run.is_complete():
                _keep_output(run.folder / LOG)
                execute_run(run)
                _keep_output(Path(os.devnull))  # Windows deletes no open file
                (run.folder / LOG).unlink(missing_ok=True)
    except Timeout:
        raise SystemExit(BUSY) from None


def _keep_output(log: Path) -> None:
    """Send what this process and its kernel print to a file, so that parallel runs do not speak across each other."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, however that happened; its kernel then ends too."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def execute_run(run: PlannedRun) -> RunRecord:
    """Execute one run's notebook and return its record; a failure becomes a record too."""
    started_at, clock = now(), perf_counter()
    (run.folder / "run.json").unlink(missing_ok=True)  # whatever record there is afterwards, this execution left it
    try:
        execute_notebook(
            run.family.notebook_path, run.folder / "notebook.ipynb", run.parameters.model_dump(mode="json")
        )
        record = read_record(run.folder)
        if record is None:
            raise RuntimeError("the notebook ended without leaving a record")
        return record
    except Exception as error:  # whatever went wrong in a run belongs into its record
        failure = describe_error(error)
        complete = read_record(run.folder)
        if complete is None or complete.status == "failed" or complete.key != run.key:
            return _record_failure(run, failure, started_at, clock)
        # A later cell failed, which only compares and shows: the result stands.
        warning = (
            f"its notebook failed after the run was complete, in cell {failure.cell}: {failure.type}: {failure.message}"
        )
        complete = complete.model_copy(update={"warnings": [*complete.warnings, warning]})
        write_record(run.folder, complete)
        return complete


def _record_failure(run: PlannedRun, error: ErrorRecord, started_at: str, clock: float) -> RunRecord:
    record = RunRecord(
        experiment=run.parameters.experiment,
        family=run.family.name,
        seed=run.parameters.seed,
        key=run.key,
        key_facts=run.facts,
        status="failed",
        error=error,
        parameters=run.parameters.result_parameters(),
        started_at=started_at,
        finished_at=now(),
        seconds=SecondsRecord(total=perf_counter() - clock),
        warnings=list(run.warnings),
    )
    write_record(run.folder, record)
    return record


def execute_notebook(notebook: Path, output: Path, parameters: dict) -> None:
    """Execute a notebook with papermill in the kernel `python3` of this environment.

    Raises:
        papermill.PapermillExecutionError: a cell failed. Other exceptions: the kernel could not start or died.
    """
    import papermill
    from traitlets.config import Config

    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(KERNEL_ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="cifar-report-") as sockets:
        # Unix sockets where there are any: no other user of the machine can listen in, and no two kernels want one
        # port. The folder is named because the default one is shared by all kernels.
        ipc = {"transport": "ipc", "ip": f"{sockets}/kernel"}
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            shutdown_kernel="immediate",  # when asked politely, ipykernel may report its own interruption
            config=Config({"KernelManager": ipc if os.name == "posix" else {}}),
        )


def describe_error(error: Exception) -> ErrorRecord:
    """What failed, and in which code cell of the notebook if it was one."""
    if hasattr(error, "ename"):  # papermill's PapermillExecutionError
        return ErrorRecord(
            type=str(error.ename),
            message=str(error.evalue),  # type: ignore[attr-defined]
            cell=error.exec_count,  # type: ignore[attr-defined]
            cell_source=str(error.source),  # type: ignore[attr-defined]
        )
    return ErrorRecord(type=type(error).__name__, message=str(error), cell=None, cell_source=None)


def _death(worker: _Worker) -> ErrorRecord:
    """Why a worker died without leaving a record, with the last it said."""
    code = worker.process.exitcode or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    try:
        said = (worker.run.folder / LOG).read_text(errors="replace")[-2000:].strip()
    except OSError:
        said = ""
    message = f"the run's process {how}" + (f"; it last said: {said}" if said else "")
    return ErrorRecord(type="WorkerDied", message=message, cell=None, cell_source=None)


def outcome(record: RunRecord) -> str:
    """A record's result in a few words."""
    if record.status == "completed" and record.test:
        return f"{record.test.accuracy:.2%} of {record.test.total:,} test images"
    assert record.error is not None
    cell = f" in cell {record.error.cell}" if record.error.cell else ""
    return f"FAILED{cell}: {record.error.type}: {record.error.message.splitlines()[0] if record.error.message else ''}"
