"""The machine's cores, shared by runs of several commands: those that do not fit beside each other take turns.

Threads of two runs on the same cores wait for each other by spinning: two runs of two threads each on two cores were
measured at a quarter and, on another machine, at a thirteenth of their speed; taking turns, at 0.4 to 0.45. So a run
holds as many core files (locked, one a core, for all processes of this user) as it has threads while it computes, and
after `SLICE` seconds passes them on to a run that waits. Nothing of this changes a result. A run that is killed loses
its locks; where there is no `flock`, or a suspended run holds the cores for longer than `PATIENCE`, runs go on without.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SLICE = 1.0  # seconds of computing before another run gets its turn
PATIENCE = 300.0  # seconds of waiting for cores
POLL = 0.005  # seconds between two tries: oftener, and who waits slows down who computes
CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores this process may use: those it may run on, or fewer where a container's quota is less."""
    return min(len(allowed_cores()), _quota(CGROUP) or len(allowed_cores()))


def allowed_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no such call
        return list(range(os.cpu_count() or 1))


def _quota(cgroup: Path) -> int | None:
    """Cores that a control group grants, rounded up: `cpu.max` (version 2) or the files of version 1; `None`: all."""
    with suppress(OSError, ValueError):
        granted, period = (cgroup / "cpu.max").read_text().split()
        return None if granted == "max" else math.ceil(int(granted) / int(period))
    with suppress(OSError, ValueError):
        granted, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if int(granted) <= 0 else math.ceil(int(granted) / int(period))
    return None


@dataclass
class _Lease:
    """The core files that this process holds, and since when."""

    wanted: int = 0
    held: list[IO] = field(default_factory=list)
    since: float = 0.0
    waiting: IO | None = None

    def acquire(self) -> None:
        """Wait for as many cores as are wanted."""
        folder = _folder()
        if fcntl is None or folder is None:
            return
        deadline = time.monotonic() + PATIENCE
        files: list[IO] = []
        try:
            files += [(folder / f"core-{number}").open("w") for number in allowed_cores()]
            while not self._try(files):
                if self.waiting is None:
                    self.waiting = (folder / "waiting").open("w")
                    _lock(self.waiting, shared=True)
                if time.monotonic() > deadline:
                    break
                time.sleep(POLL)
        except OSError:  # a folder that has gone, or a file system without locks: go on without
            pass
        for file in [*files, *([self.waiting] if self.waiting else [])]:
            if file not in self.held:
                file.close()
        self.waiting = None
        self.since = time.monotonic()

    def _try(self, files: list[IO]) -> bool:
        free: list[IO] = []
        for file in files:
            if len(free) < self.wanted and _lock(file):
                free.append(file)
        if len(free) < self.wanted:
            for file in free:
                fcntl.flock(file, fcntl.LOCK_UN)
            return False
        self.held = free
        return True

    def release(self) -> None:
        """Let others have the cores."""
        while self.held:
            self.held.pop().close()

    def others_wait(self) -> bool:
        """Whether some run waits for cores: those that do share a lock."""
        folder = _folder()
        if not self.held or folder is None:
            return False
        with suppress(OSError), (folder / "waiting").open("w") as file:
            return not _lock(file)
        return False


_lease = _Lease()


@contextmanager
def leased(threads: int, *, device: str = "cpu") -> Iterator[None]:
    """Hold as many cores as a run has threads, for work on the CPU; within another lease this adds nothing."""
    if device != "cpu" or _lease.wanted:
        yield
        return
    _lease.wanted = min(threads, cores())
    try:
        _lease.acquire()
        yield
    finally:
        _lease.release()
        _lease.wanted = 0


def take_turns() -> None:
    """Between two pieces of work: pass the cores on if this run had them for `SLICE` seconds and another one waits."""
    if _lease.held and time.monotonic() - _lease.since > SLICE and _lease.others_wait():
        _lease.release()
        time.sleep(3 * POLL)  # long enough for those that wait to be first
        _lease.acquire()


def _lock(file: IO, *, shared: bool = False) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder() -> Path | None:
    """Where this user's core files are; `None` if somebody else made that folder."""
    if not hasattr(os, "getuid"):
        return None
    folder = Path(tempfile.gettempdir()) / f"cifar-report-cores-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder if folder.stat().st_uid == os.getuid() and not folder.is_symlink() else None
    except OSError:
        return None
