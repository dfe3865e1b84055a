"""One run in a process of its own: started, watched, and its end made a record whatever that end was."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import psutil
from filelock import Timeout

from cifar_report.execution.kernel import ForkedKernel, end_with, execute_notebook
from cifar_report.execution.plan import PlannedRun
from cifar_report.records.backup import Backup
from cifar_report.records.key import stale_because
from cifar_report.records.lock import folder_lock, is_locked
from cifar_report.records.record import ErrorRecord, RunRecord, SecondsRecord, now, read_record, write_record

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext  # Windows has no fork server

LOG = ".log"  # what a worker and its kernel print, kept only if they die
BUSY = 75  # a worker's exit code where another process executes the same run


class OtherWorkError(RuntimeError):
    """A run did other work than was planned: its code, data or weights changed meanwhile, or differ on its node."""


@dataclass
class Worker:
    """A process that executes one run."""

    run: PlannedRun
    process: BaseProcess
    started_at: str = field(default_factory=now)
    clock: float = field(default_factory=perf_counter)

    @classmethod
    def start(cls, run: PlannedRun, environment: dict[str, str]) -> Worker:
        """Start a process for `run` with exactly these environment variables."""
        process = _context().Process(target=_work, args=(run, environment, os.getpid()), name=run.name)
        process.start()
        return cls(run, process)

    def has_ended(self) -> bool:
        return self.process.exitcode is not None

    def result(self) -> RunRecord | None:
        """The record that an ended worker left, made here if it died; `None` where another process has the run."""
        if self.process.exitcode == BUSY:
            return None
        if self.process.exitcode != 0 and not self.run.is_complete():
            return record_failure(self.run, _death(self), self.started_at, self.clock)
        record = read_record(self.run.folder)
        if record is None and is_locked(self.run.folder):
            return None  # another command's already, with other settings
        return record or record_failure(self.run, _lost(self.run.folder), self.started_at, self.clock)


def _context() -> ForkServerContext | SpawnContext:
    """Processes forked from a server that has torch imported; where there is no fork, plain new ones."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cifar_report.execution.preload" if sys.platform == "linux" else __name__])
    return context


def _work(run: PlannedRun, environment: dict[str, str], command: int) -> None:
    """What a worker does for the process `command`: execute one run, unless another process does so or has done so."""
    os.environ.clear()  # the fork server's may be older
    os.environ.update(environment)
    parent, works_for = os.getppid(), psutil.Process(command)  # an error here where the command has ended already
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is the parent's business
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the fork server ignores
    try:
        with folder_lock(run.folder).acquire(blocking=False):
            if not run.is_complete():
                _keep_output(run.folder / LOG)
                kernel = ForkedKernel() if ForkedKernel.possible() else None  # before this process has threads
                if hasattr(os, "setsid"):
                    end_with(parent, works_for)  # the fork server outlives it while a worker lives
                execute_run(run, kernel=kernel)
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


def execute_run(run: PlannedRun, *, kernel: ForkedKernel | None = None) -> RunRecord:
    """Execute one run's notebook and return its record; a failure becomes a record too."""
    started_at, clock = now(), perf_counter()
    (run.folder / "run.json").unlink(missing_ok=True)  # whatever record there is afterwards, this execution left it
    try:
        execute_notebook(
            run.family.notebook_path,
            run.folder / "notebook.ipynb",
            run.parameters.model_dump(mode="json"),
            kernel=kernel,
        )
        record = read_record(run.folder)
        if record is None:
            raise RuntimeError("the notebook ended without leaving a record")
        if record.key != run.key:
            raise OtherWorkError(
                "it ran on something else than was planned: "
                + ("; ".join(stale_because(record, run.parameters, run.facts)) or "other parameters")
            )
        Backup(run.folder).save(("notebook.ipynb",))
        return record
    except Exception as error:  # whatever went wrong in a run belongs into its record
        failure = describe_error(error)
        if kernel and failure.type == "DeadKernelError" and (code := kernel.poll()) is not None and code < 0:
            how = f"{failure.message} (ended by {signal.Signals(-code).name}"
            how += ", as the system does when memory runs out)" if code == -signal.SIGKILL else ")"
            failure = failure.model_copy(update={"message": how})
        complete = read_record(run.folder)
        if complete is None or complete.status == "failed" or complete.key != run.key:
            return record_failure(run, failure, started_at, clock)
        # A later cell failed, which only compares and shows: the result stands.
        warning = (
            f"its notebook failed after the run was complete, in cell {failure.cell}: {failure.type}: {failure.message}"
        )
        complete = complete.model_copy(update={"warnings": [*complete.warnings, warning]})
        write_record(run.folder, complete)
        return complete


def record_failure(run: PlannedRun, error: ErrorRecord, started_at: str, clock: float) -> RunRecord:
    """Leave a failed run's record; where even that cannot be written, the record is only returned."""
    record = failed_record(run, error, started_at, clock)
    try:
        write_record(run.folder, record)
    except OSError as full:
        reason = f"{error.message} (and this could not be recorded: {full.strerror} in {run.folder})"
        return record.model_copy(update={"error": error.model_copy(update={"message": reason})})
    return record


def failed_record(run: PlannedRun, error: ErrorRecord, started_at: str, clock: float) -> RunRecord:
    """The record of a failed run, not written."""
    return RunRecord(
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


def _lost(folder: Path) -> ErrorRecord:
    """Why a run that ended by itself has left no record."""
    try:
        reason = f"where {shutil.disk_usage(folder).free // 1024:,} kB are free"
    except OSError as error:
        reason = str(error.strerror)
    return ErrorRecord(
        type="RecordLost", message=f"it could leave no record in {folder}, {reason}", cell=None, cell_source=None
    )


def _death(worker: Worker) -> ErrorRecord:
    """Why a worker died without leaving a record, with the last it said."""
    code = worker.process.exitcode or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    try:
        said = (worker.run.folder / LOG).read_text(errors="replace")[-2000:].strip()
    except OSError:
        said = ""
    message = f"the run's process {how}" + (f"; it last said: {said}" if said else "")
    return ErrorRecord(type="WorkerDied", message=message, cell=None, cell_source=None)
