"""The state of an unfinished run, written after its epochs: what it takes to go on as if nothing had happened."""

from __future__ import annotations

import zipfile
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from cifar_report.records.files import PROGRESS, atomic_file, write_text
from cifar_report.records.record import KeyFacts, Progress


@dataclass
class Checkpoint:
    """`checkpoint.pt` of one run folder, valid only for the run whose key it carries, on the same type of device in
    the same precision (`device`).

    Once a state has been loaded, `started_at` is of the run's first session, and `environments` what each ran on.
    `warning` says why a state that was there could not be used.
    """

    path: Path
    key: str
    _: KW_ONLY
    device: str
    started_at: str
    environments: list[dict[str, Any]]
    facts: KeyFacts | None = None
    warning: str | None = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)  # when a state shall be written again

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by `state` (tensors, numbers, texts, lists, dicts) in one step.

        Where writing takes longer than a second, as for VGG-16 on a network's disk, epochs are left out so that at most
        a tenth of the time goes into it.
        """
        if (started := perf_counter()) < self._next:
            return
        about = {name: getattr(self, name) for name in ("key", "device", "started_at", "environments", "warning")}
        with atomic_file(self.path) as temporary, temporary.open("wb") as stream:
            try:
                torch.save({**about, **state}, stream)
            except RuntimeError as error:  # torch's; what the system said, as of a full disk, is its context
                raise error.__context__ or error from None
        progress = Progress(key=self.key, device=self.device, epochs=len(state["history"]), facts=self.facts)
        write_text(self.path.with_name(PROGRESS), progress.model_dump_json())
        taken = (now := perf_counter()) - started
        self._next = now + 9 * taken if taken > 1 else now

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
            reason = str(error).partition("\n")[0] or type(error).__name__
            self.warning = f"its checkpoint was damaged ({reason}): it started again from the first epoch"
            return None
        if (state.get("key"), state.get("device")) != (self.key, self.device):
            print(f"{self.path} is of other parameters, code, device or precision: starting again from the first epoch")
            return None
        self.started_at, self.warning = state["started_at"], state.get("warning")
        self.environments = [*state.get("environments", ()), *self.environments]
        return state

    def remove(self) -> None:
        """Remove what is needed no more."""
        for name in (PROGRESS, self.path.name):
            self.path.with_name(name).unlink(missing_ok=True)
