"""The lock on a folder, which whoever executes a run or writes a report there holds."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


def folder_lock(folder: Path) -> FileLock:
    """The lock of a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / LOCK)


def is_locked(folder: Path) -> bool:
    """Whether some process holds the lock of the folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with folder_lock(folder).acquire(blocking=False):
            return False
    except Timeout:
        return True
