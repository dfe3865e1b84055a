"""The files of a run folder, by name; and files written in one step, so that nobody ever reads half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

RECORD = "run.json"  # written last: its presence means that the run is complete
HISTORY = "history.csv"
PREDICTIONS = "predictions.npz"
WEIGHTS = "model.safetensors"
RESULT_FILES = (HISTORY, PREDICTIONS, WEIGHTS, RECORD)
NOTEBOOK = "notebook.ipynb"
FAILED, FAILED_NOTEBOOK = "failed.json", "failed.ipynb"  # of a later run that failed, beside a result that stays
CHECKPOINT = "checkpoint.pt"  # while a run is unfinished
PROGRESS = ".checkpoint.json"  # what the checkpoint is of


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` if the block ends well and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid4().hex}{path.suffix}")
    try:
        yield temporary
        with temporary.open("r+b") as written:  # on the disk before its name is: a power failure leaves old or new
            os.fsync(written.fileno())
        umask = os.umask(0)  # others may read it as they may any new file: safetensors makes its own for one user
        os.umask(umask)
        with suppress(OSError):  # some mounted disks know no modes
            temporary.chmod(0o666 & ~umask)
        _replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(source: Path, target: Path) -> None:
    """Rename a file. On Windows this waits up to two seconds for who reads the target, such as a virus scanner."""
    end = monotonic() + 2.0
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or monotonic() > end:
                raise
            sleep(0.05)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file in one step."""
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)


def remove_half_written(folder: Path) -> None:
    """Remove what a process that was killed left of `atomic_file`."""
    for path in folder.glob(".*-*.*"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in one step."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_if_changed(path: Path, text: str) -> bool:
    """Write a file, unless it says the same already: its time tells when it last changed. Returns whether it did."""
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
        return False
    write_text(path, text)
    return True
