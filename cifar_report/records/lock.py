"""The lock on a folder, which whoever executes a run or writes a report there holds."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from cifar_report.experiments.errors import RequestError

LOCK = ".lock"
HOLDER = ".holder"  # number and machine of the process that holds the lock
_kept: dict[Path, ExitStack] = {}


class HeldError(RequestError):
    """Another process holds the lock."""


@contextmanager
def folder_lock(folder: Path, *, wait: float = 0.2) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be. `is_locked`, of another process, holds it for a moment.

    Raises:
        HeldError: another process holds it, still after `wait` seconds.
        RequestError: the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    require_locks(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise HeldError(f"{holder(folder)} is at work in {folder}; wait until it has ended") from None
    try:
        with suppress(OSError):
            (folder / HOLDER).write_text(f"{os.getpid()} {socket.gethostname()}")
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def keep_lock(folder: Path) -> None:
    """Hold the lock until `release_lock` or the end of this process, if no process that it works for holds it.

    A process keeps one lock: that of a run which was given up for another is released. Errors are `folder_lock`'s.
    """
    if folder in _kept:
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(folder))
        except HeldError:
            pid, host = _read_holder(folder)
            if host != socket.gethostname() or pid not in [process.pid for process in psutil.Process().parents()]:
                raise
        for given_up in list(_kept):
            release_lock(given_up)
        _kept[folder] = stack.pop_all()


def release_lock(folder: Path) -> None:
    """Give up a lock that was kept."""
    if stack := _kept.pop(folder, None):
        stack.close()


def is_locked(folder: Path) -> bool:
    """Whether some process holds the lock of the folder."""
    if not os.access(folder / LOCK, os.W_OK):  # there is none, or one that this user cannot hold
        return False
    try:
        with FileLock(folder / LOCK).acquire(timeout=0):
            return False
    except Timeout:
        return True


def holder(folder: Path) -> str:
    """Who holds the lock: `process 123 on node7`."""
    pid, host = _read_holder(folder)
    return f"process {pid} on {host}" if pid else "another process"


def require_locks(folder: Path) -> None:
    """Refuse a file system without locks, such as some network file systems, or without room to name the holder."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe, suppress(ImportError):
            probe.write(b"1")
            import fcntl  # not on Windows, where every file system has locks

            try:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RequestError(
                    f"the file system of {folder} has no locks ({error.strerror}): two commands could execute the same "
                    "run there at the same time; choose another folder with --output"
                ) from None
    except OSError as error:
        raise RequestError(f"cannot write to {folder}: {error.strerror}") from None


def _read_holder(folder: Path) -> tuple[int, str]:
    with suppress(OSError, ValueError):
        pid, host = (folder / HOLDER).read_text().split()
        return int(pid), host
    return 0, ""
