"""Executing a plan: each run is one papermill execution of its family's notebook."""

from __future__ import annotations

import contextlib
import csv
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter

from cifar_report.pipeline.plan import PlannedRun
from cifar_report.record import ErrorRecord, RunRecord, SecondsRecord, now, read_record, write_record

# The kernel of this very environment, whatever kernels the user has installed elsewhere.
KERNEL_ENVIRONMENT = {"JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def execute_plan(plan: Sequence[PlannedRun], say: Callable[[str], None] = print) -> list[RunRecord]:
    """Execute the runs of the plan that are not complete, one after the other.

    A failed run is recorded and does not stop the others.

    Returns:
        the records of the runs executed here, completed or failed.
    """
    missing = [run for run in plan if not run.is_complete()]
    say(f"{len(plan)} runs planned, {len(plan) - len(missing)} complete, {len(missing)} to execute")
    records = []
    for number, run in enumerate(missing, start=1):
        with _live_status(run, f"[{number}/{len(missing)}] {run.name}"):
            record = execute_run(run)
        say(f"[{number}/{len(missing)}] {run.name}: {_outcome(record)}, {record.seconds.total:.0f} s")
        records.append(record)
    return records


def execute_run(run: PlannedRun) -> RunRecord:
    """Execute one run's notebook and return its record; a failure becomes a record too."""
    started_at, clock = now(), perf_counter()
    try:
        execute_notebook(
            run.family.notebook_path, run.folder / "notebook.ipynb", run.parameters.model_dump(mode="json")
        )
        record = read_record(run.folder)
        if record is None:
            raise RuntimeError("the notebook ended without leaving a record")
        return record
    except Exception as error:  # whatever went wrong in a run belongs into its record
        record = RunRecord(
            experiment=run.parameters.experiment,
            family=run.family.name,
            seed=run.parameters.seed,
            key=run.key,
            status="failed",
            error=describe_error(error),
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

    # Unix sockets where there are any: no other user of the machine can listen in, and no two kernels want one port.
    transport = Config({"KernelManager": {"transport": "ipc"}} if os.name == "posix" else {})
    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(KERNEL_ENVIRONMENT)
    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters=parameters,
        kernel_name="python3",
        progress_bar=False,
        config=transport,
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


def _outcome(record: RunRecord) -> str:
    if record.status == "completed" and record.test:
        return f"{record.test.accuracy:.2%} of {record.test.total:,} test images"
    assert record.error is not None
    cell = f" in cell {record.error.cell}" if record.error.cell else ""
    return f"FAILED{cell}: {record.error.type}: {record.error.message.splitlines()[0] if record.error.message else ''}"


@contextlib.contextmanager
def _live_status(run: PlannedRun, title: str) -> Iterator[None]:
    """On a terminal, a line that follows the run's epochs; elsewhere nothing."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    finished = threading.Event()

    def follow() -> None:
        while not finished.wait(0.5):
            status.update(f"{title}: {_progress(run.folder / 'history.csv', run.parameters.epochs)}")

    with console.status(title) as status:
        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()


def _progress(history: Path, epochs: int) -> str:
    try:
        with history.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        last = rows[-1]
        return f"epoch {last['epoch']}/{epochs}, validation accuracy {float(last['validation_accuracy']):.2%}"
    except (OSError, IndexError, KeyError, TypeError, ValueError):
        return f"epoch 0/{epochs}"
