"""A copy of each run kept elsewhere, such as on a mounted Drive: where a machine is taken away, the run goes on."""

from __future__ import annotations

import os
from pathlib import Path

from cifar_report.experiments.errors import RequestError
from cifar_report.records.files import CHECKPOINT, PROGRESS, RECORD, copy_file, remove_half_written
from cifar_report.records.lock import is_locked
from cifar_report.records.record import read_progress, read_record

BACKUP = "CIFAR_REPORT_BACKUP"  # environment variable: the folder that holds the copies
UNFINISHED = (CHECKPOINT, PROGRESS)  # the first holds the history, too


class Backup:
    """Copies of one run's files. An error there stops no run: it is said once, and copying is tried again later."""

    def __init__(self, folder: Path) -> None:
        root = os.environ.get(BACKUP)
        self.folder = folder
        # <root>/full/exp003/seed-0: copies of different profiles are kept apart
        self.copy_folder = Path(root, folder.parents[2].resolve().name, *folder.parts[-2:]) if root else None
        self._saved = 0  # when the state that the copy has was written
        self.warnings: list[str] = []

    def restore_state(self, key: str, device: str) -> None:
        """Fetch the state of an interrupted run, if this machine has none, or one of fewer epochs."""

        def epochs(folder: Path) -> int:
            state = read_progress(folder)
            return state.epochs if state and (state.key, state.device) == (key, device) else 0

        here = (self.folder / CHECKPOINT).exists()
        if self.copy_folder is None or (here and epochs(self.folder) >= epochs(self.copy_folder)):
            return
        try:
            if (self.copy_folder / CHECKPOINT).is_file():
                for name in UNFINISHED:
                    if (self.copy_folder / name).is_file():
                        copy_file(self.copy_folder / name, self.folder / name)
                self._saved = (self.folder / CHECKPOINT).stat().st_mtime_ns
                print(f"going on from the copy in {self.copy_folder}")
        except OSError as error:
            self._not_fetched(error)

    def restore_result(self, key: str | None = None) -> bool:
        """Fetch a complete run's files: of this key, or of any if this machine has none; say whether it did."""
        if self.copy_folder is None or (key is None and (self.folder / RECORD).exists()):
            return False
        try:
            if (record := read_record(self.copy_folder)) is None or key not in (None, record.key):
                return False
            (self.folder / RECORD).unlink(missing_ok=True)  # of an earlier result, whose files are replaced now
            for path in sorted(self.copy_folder.iterdir(), key=lambda path: path.name == RECORD):  # which comes last
                if path.is_file() and path.name != CHECKPOINT and not path.name.startswith("."):
                    copy_file(path, self.folder / path.name)
        except (OSError, RequestError) as error:
            self._not_fetched(error)
            return False
        return True

    def save_state(self) -> None:
        """Copy the state of an unfinished run, if there is a newer one than the copy's.

        A state there that another kind of GPU made, and that this one cannot use, stays until this one is as far.
        """
        state = self.folder / CHECKPOINT
        if not state.is_file() or state.stat().st_mtime_ns == self._saved:
            return
        here, there = read_progress(self.folder), read_progress(self.copy_folder) if self.copy_folder else None
        if here and there and here.key == there.key and here.device != there.device and here.epochs < there.epochs:
            return
        if self.save(UNFINISHED):
            self._saved = state.stat().st_mtime_ns

    def save(self, names: tuple[str, ...]) -> bool:
        """Copy files of the run, each in one step; say whether all were copied.

        Beside the state of an unfinished run, an earlier result stays. A result replaces both.
        """
        if self.copy_folder is None:
            return False
        try:
            remove_half_written(self.copy_folder)
            if RECORD in names:  # of an earlier result, whose files are replaced now
                (self.copy_folder / RECORD).unlink(missing_ok=True)
            for name in names:
                if (self.folder / name).is_file():
                    copy_file(self.folder / name, self.copy_folder / name)
            if RECORD in names:  # of a complete run the state is needed no more
                for name in reversed(UNFINISHED):
                    (self.copy_folder / name).unlink(missing_ok=True)
        except OSError as error:
            self._warn(error, "this result has no copy" if RECORD in names else "the run goes on and tries again")
            return False
        return True

    def _not_fetched(self, error: Exception) -> None:
        self._warn(error, "nothing is copied there")
        self.copy_folder = None  # a run that starts anew must not replace what could not be fetched

    def _warn(self, error: Exception, consequence: str) -> None:
        reason = getattr(error, "strerror", None) or error
        warning = f"copying to or from {self.copy_folder} failed ({reason}); {consequence}"
        if warning not in self.warnings:
            self.warnings.append(warning)
            print(f"WARNING: {warning}")


def restore_runs(output_dir: Path) -> int:
    """Bring back the complete runs whose copies are kept and that `output_dir` lacks; returns how many.

    A run that some process is executing is left to it. Where a newer version wrote a copy, none is brought back.
    """
    root, count = os.environ.get(BACKUP), 0
    records = sorted(Path(root, output_dir.resolve().name).glob("*/seed-*/run.json")) if root else []
    for record in records:
        read_record(record.parent)
    for record in records:
        folder = output_dir / "runs" / record.parent.parent.name / record.parent.name
        count += not is_locked(folder) and Backup(folder).restore_result()
    return count
