"""The state of an unfinished run, written after every epoch: what it takes to go on as if nothing had happened."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from cifar_report.record import atomic_file


class Checkpoint:
    """`checkpoint.pt` of one run folder, valid only for the run whose key it carries."""

    def __init__(self, path: Path, key: str, started_at: str) -> None:
        self.path = path
        self.key = key
        self.started_at = started_at  # of the run's first session, once its state has been loaded

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by `state` (tensors, numbers, texts, lists, dicts) in one step."""
        with atomic_file(self.path) as temporary:
            try:
                torch.save({"key": self.key, "started_at": self.started_at, **state}, temporary)
            except RuntimeError as error:  # torch does not pass on what the system said
                if shutil.disk_usage(self.path.parent).free < 1 << 20:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
                raise

    def load(self) -> dict[str, Any] | None:
        """Return the state to go on from; `None` where there is none, or only a damaged one or another run's."""
        if not self.path.is_file():
            return None
        try:
            with zipfile.ZipFile(self.path) as archive:  # torch itself does not compare the checksums
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"wrong checksum of {damaged}")
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # zipfile, pickle and torch each have errors of their own for a damaged file
            print(
                f"WARNING: {self.path} is damaged ({str(error).splitlines()[0]}): starting again from the first epoch"
            )
            return None
        if state.get("key") != self.key:
            print(f"{self.path} is of other parameters, code or another device: starting again from the first epoch")
            return None
        self.started_at = state["started_at"]
        return state
