"""One run in a process of its own, which always ends with a record."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

import psutil

from cifar_report.execution.kernel import ForkedKernel, end_with, execute_notebook, killed_afterwards, short_folder
from cifar_report.execution.plan import PlannedRun
from cifar_report.execution.resources import gpus
from cifar_report.records.backup import Backup
from cifar_report.records.files import CHECKPOINT, FAILED, FAILED_NOTEBOOK, NOTEBOOK, PROGRESS, RECORD
from cifar_report.records.key import stale_because
from cifar_report.records.lock import HOLDER, HeldError, folder_lock, is_locked
from cifar_report.records.record import ErrorRecord, RunRecord, SecondsRecord, now, read_record, write_record

LOG = ".log"  # output of a worker and its kernel, kept only if they die
BUSY = 75  # a worker's exit code where another process executes the same run
BROKEN = 76  # and where the run failed, and its GPU does not work


@dataclass
class Worker:
    """A process that executes one run."""

    run: PlannedRun
    process: BaseProcess
    started: float = field(default_factory=perf_counter)

    @classmethod
    def start(cls, run: PlannedRun, environment: dict[str, str]) -> Worker:
        """Start a process for `run` with exactly these environment variables."""
        tempfile.tempdir = short_folder() or tempfile.tempdir  # of sockets
        process = _context().Process(target=_work, args=(run, environment, os.getpid()), name=run.name)
        # A fork server would import from the working directory first, whatever this process did.
        path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
        with mock.patch.dict(os.environ, {"PYTHONSAFEPATH": "1", "PYTHONPATH": path}):
            process.start()
        return cls(run, process)

    def result(self) -> RunRecord | None:
        """The record of an ended worker, made here if it died; `None` where the run has still to be executed."""
        if self.process.exitcode in (BUSY, BROKEN):
            return None
        if self.process.exitcode != 0 and not self.run.is_complete():
            return write_failed_record(self.run, _death(self), self.started)
        record = read_record(self.run.folder)
        if record and (record.key == self.run.key or self.run.is_complete()):
            return record
        if (failed := read_record(self.run.folder, FAILED)) and failed.key == self.run.key:
            return failed
        if record is None and is_locked(self.run.folder):
            return None  # another command executes it already, with other settings
        lost = f"the run could not write its record in {self.run.folder}; is its disk full?"
        return write_failed_record(self.run, ErrorRecord(type="RecordLost", message=lost), self.started)


def remove_traces(folder: Path) -> None:
    """Remove what a process that was killed at the last moment left beside a complete run."""
    for path in (folder / LOG, folder / HOLDER):
        if path.exists() and not is_locked(folder):
            path.unlink(missing_ok=True)


def _context() -> Any:
    """Processes forked from a server that has torch imported; where there is no fork, plain new ones."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cifar_report.execution.preload" if sys.platform == "linux" else __name__])
    return context


def _work(run: PlannedRun, environment: dict[str, str], command: int) -> None:
    """Execute one run for the process `command`, unless another process does so or has done so."""
    os.environ.clear()  # the fork server's may be older
    os.environ.update(environment)
    try:
        parent, works_for = os.getppid(), psutil.Process(command)
    except psutil.NoSuchProcess:  # interrupted already
        raise SystemExit(BUSY) from None
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is the parent's business
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the fork server ignores
    try:
        with folder_lock(run.folder):
            if run.state().status not in ("complete", "diverged"):
                _keep_output(run.folder / LOG)
                kernel = ForkedKernel() if ForkedKernel.possible() else None  # before this process has threads
                end_with(parent, works_for)  # the fork server outlives it while a worker lives
                with killed_afterwards(kernel):
                    record = execute_run(run, kernel=kernel)
                _keep_output(Path(os.devnull))  # Windows deletes no open file
                with suppress(OSError):  # which there a kernel may still have open; `remove_traces` is for that
                    (run.folder / LOG).unlink(missing_ok=True)
                on_gpu = run.parameters.device != "cpu" and bool(gpus())
                if record.error and record.error.type != "RequestError" and on_gpu and not _gpu_works():
                    if record.diverged:  # on a GPU that computes nothing right
                        (run.folder / RECORD).unlink()
                    raise SystemExit(BROKEN)
    except HeldError:
        raise SystemExit(BUSY) from None


def _gpu_works() -> bool:
    """Whether the GPU that a failed run had computes anything; the run's kernel has ended."""
    import torch

    try:
        return torch.ones(8, device="cuda").sum().item() == 8
    except torch.OutOfMemoryError:  # others fill it
        return True
    except Exception:  # whatever CUDA says
        return False


def _keep_output(log: Path) -> None:
    """Send what this process and its kernel print to a file, so that parallel runs do not mix theirs."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)


def execute_run(run: PlannedRun, *, kernel: ForkedKernel | None = None) -> RunRecord:
    """Execute one run's notebook and return its record; a failure becomes a record too."""
    started = perf_counter()
    before = read_record(run.folder)  # stays until this execution leaves its own
    if before is None or before.key == run.key:  # damaged; or of the same work: a failure, or without its other files
        (run.folder / RECORD).unlink(missing_ok=True)
        before = None  # a copy of it that the backup brings back is a result of this execution
    for name in (FAILED, FAILED_NOTEBOOK):  # of an earlier attempt
        (run.folder / name).unlink(missing_ok=True)
    target = run.folder / (FAILED_NOTEBOOK if before and before.status == "completed" else NOTEBOOK)
    values = run.parameters.model_dump(mode="json")
    try:
        execute_notebook(run.family.notebook_path, target, values, kernel=kernel)
        record = read_record(run.folder)
        if record is None or record == before:
            raise RuntimeError("the notebook ended without leaving a record")
        if record.key != run.key:
            (run.folder / RECORD).unlink()
            changed = stale_because(record, run.parameters, run.facts) or ["other parameters"]
            raise RuntimeError(f"the run was not executed as planned: {'; '.join(changed)}")
        target.replace(run.folder / NOTEBOOK)
        Backup(run.folder).save((NOTEBOOK,))
        return record
    except Exception as error:  # whatever went wrong in a run belongs into its record
        failure = describe_error(error, kernel)
    complete = read_record(run.folder)
    if complete is None or complete == before or complete.status == "failed" or complete.key != run.key:
        return write_failed_record(run, failure, started)
    target.replace(run.folder / NOTEBOOK)
    # A later cell failed, which only compares and shows: the result stands.
    warning = f"its notebook failed after the run was complete, in cell {failure.cell}: {failure.type}: "
    complete = complete.model_copy(update={"warnings": [*complete.warnings, warning + failure.message]})
    write_record(run.folder, complete)
    return complete


def write_failed_record(run: PlannedRun, error: ErrorRecord, started: float) -> RunRecord:
    """Write a failed run's record and return it; it is only returned where it cannot be written.

    An earlier result with other parameters or code stays, and the failure is written beside it, unless the run
    diverged: that is its result.
    """
    record, earlier = failed_record(run, error, started), read_record(run.folder)
    stays = earlier and earlier.status == "completed" and earlier.key != run.key and not record.diverged
    try:
        write_record(run.folder, record, FAILED if stays else RECORD)
        if not stays and (notebook := run.folder / FAILED_NOTEBOOK).exists():
            notebook.replace(run.folder / NOTEBOOK)
        for name in (CHECKPOINT, PROGRESS) if record.diverged else ():  # there is nothing to go on from
            (run.folder / name).unlink(missing_ok=True)
    except OSError as full:
        reason = f"{error.message} (and this could not be recorded: {full.strerror} in {run.folder})"
        return record.model_copy(update={"error": error.model_copy(update={"message": reason})})
    return record


def failed_record(run: PlannedRun, error: ErrorRecord, started: float) -> RunRecord:
    """The record of a failed run, not written. `started` is the value of `perf_counter` when it was started."""
    seconds = perf_counter() - started
    return RunRecord(
        experiment=run.parameters.experiment,
        family=run.family.name,
        seed=run.parameters.seed,
        key=run.key,
        key_facts=run.facts,
        status="failed",
        error=error,
        parameters=run.parameters.result_parameters(),
        started_at=(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds"),
        finished_at=now(),
        seconds=SecondsRecord(total=seconds),
        warnings=list(run.problems.values()),
    )


def describe_error(error: Exception, kernel: ForkedKernel | None = None) -> ErrorRecord:
    """What failed, in which code cell of the notebook, and which signal ended its kernel."""
    if hasattr(error, "ename"):  # papermill's PapermillExecutionError, without the seconds that its import takes
        e: Any = error
        return ErrorRecord(type=str(e.ename), message=str(e.evalue), cell=e.exec_count, cell_source=str(e.source))
    name, message, code = type(error).__name__, str(error), kernel.poll() if kernel else None
    if name == "DeadKernelError" and code is not None and code < 0:
        hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        message += f" (ended by {signal.Signals(-code).name}{hint})"
    return ErrorRecord(type=name, message=message)


def _death(worker: Worker) -> ErrorRecord:
    """Why a worker died without leaving a record, with its last output."""
    code = worker.process.exitcode or 0
    end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    try:
        output = (worker.run.folder / LOG).read_text(errors="replace")[-2000:].strip()
    except OSError:
        output = ""
    end += f"; its last output: {output}" if output else ""
    return ErrorRecord(type="WorkerDied", message=f"the run's process {end}")
