"""The record that a run leaves: `run.json`, read by everything that reports.

Accuracies are fractions between 0 and 1, losses are mean cross-entropies in nats, durations are seconds,
times are UTC in ISO 8601.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import CLASSES
from cifar_report.records.files import CHECKPOINT, HISTORY, PROGRESS, RECORD, write_text

SCHEMA_VERSION = 2
# How a record begins to warn that its sessions were not alike, so that it need not reproduce to the last bit.
RESUMED_ELSEWHERE = "its epochs were trained under different conditions"
DIVERGED = "DivergedError"  # of a run whose loss became infinite


class _Record(BaseModel, extra="forbid"):
    """What a run leaves as JSON; unknown fields are refused."""


class EpochRecord(_Record):
    """One pass over the training images. Training figures are means over the epoch while the model learns."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    lr: float
    seconds: float


class TestRecord(_Record):
    """The score: the final model on the test images."""

    loss: float
    accuracy: float
    correct: int
    total: int
    accuracy_without_flip: float | None = None  # with one view, where the score takes several (also shifted ones)


class SecondsRecord(_Record):
    """Where a run's time went."""

    setup: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    total: float = 0.0


class ModelRecord(_Record):
    """Architecture and number of parameters."""

    name: str
    parameters: int
    trainable_parameters: int


# official: the archive with its checksum, or a file checked against its publisher's hash; copy: the same images from
# elsewhere; local file: whatever the user named; bundled: part of an installed package.
Provenance = Literal["official", "copy", "local file", "bundled"]


class DataRecord(_Record):
    """Which images were used, where they came from, and the digest of their pixels and labels."""

    name: str
    source: str
    sha256: str
    train_size: int
    test_size: int
    validation: str
    validation_size: int
    split_sha256: str
    stand_in: bool = False
    provenance: Provenance | None = None
    classes: tuple[str, ...] | None = None  # of a folder's pictures

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of their labels."""
        return self.classes or CLASSES[self.name]


class WeightsRecord(_Record):
    """Which pretrained weights a run started from."""

    name: str
    source: str
    sha256: str
    provenance: Provenance | None = None


class EnvironmentRecord(_Record):
    """Software and hardware of a run."""

    python: str
    torch: str
    torchvision: str
    platform: str
    device: str
    device_name: str
    threads: int
    git_commit: str | None
    git_dirty: bool | None


class ErrorRecord(_Record):
    """Why a run failed, and in which code cell, as numbered in the executed notebook."""

    type: str
    message: str
    cell: int | None = None
    cell_source: str | None = None


class KeyFacts(_Record):
    """Digests of what a run's result depends on beside its parameters; with those they make its key."""

    notebook: str
    library: str
    data: str
    weights: str | None


class RunRecord(_Record):
    """One run: an experiment with a seed."""

    schema_version: int = SCHEMA_VERSION
    experiment: str
    title: str | None = None  # these two as the journal had them
    builds_on: str | None = None
    family: str
    seed: int
    key: str | None
    key_facts: KeyFacts | None = None
    status: Literal["completed", "failed"]
    error: ErrorRecord | None = None
    parameters: dict[str, Any]
    started_at: str
    finished_at: str
    seconds: SecondsRecord
    epochs: list[EpochRecord] = []
    test: TestRecord | None = None
    best_epoch: int | None = None
    model: ModelRecord | None = None
    data: DataRecord | None = None
    weights: WeightsRecord | None = None
    precision: str | None = None  # what was computed in: float32, bfloat16 or float16
    training_pflop: float | None = None  # 10^15 operations, forward and backward
    warnings: list[str] = []
    environment: EnvironmentRecord | None = None

    @property
    def diverged(self) -> bool:
        """Whether its loss became infinite; trained again on the same machine, it would do so again."""
        return self.error is not None and self.error.type == DIVERGED


class Progress(_Record):
    """What an unfinished run has to go on from, said beside its checkpoint: reading that would take torch."""

    key: str
    device: str | None = None
    epochs: int
    facts: KeyFacts | None = None


def run_folder(
    output_dir: str | Path, experiment: str, seed: int, fold: int | None = None, folds: int | None = None
) -> Path:
    """Folder of one run: `<output_dir>/runs/exp003/seed-0`, of one fold `…/seed-0-fold-1-of-5`."""
    part = "" if fold is None else f"-fold-{fold}-of-{folds}"
    return Path(output_dir).expanduser() / "runs" / experiment.lower() / f"seed-{seed}{part}"


def run_name(experiment: str, parameters: Mapping[str, Any]) -> str:
    """A run as people read it: `EXP003 seed 0`, of one fold `EXP003 seed 0 fold 1 of 5`."""
    fold, folds = parameters.get("fold"), parameters.get("folds")
    return f"{experiment} seed {parameters['seed']}" + ("" if fold is None else f" fold {fold} of {folds}")


def recorded_folder(output_dir: str | Path, record: RunRecord) -> Path:
    """The folder that a record belongs into."""
    fold, folds = record.parameters.get("fold"), record.parameters.get("folds")
    return run_folder(output_dir, record.experiment, record.seed, fold=fold, folds=folds)


def read_runs(experiment_folder: Path) -> list[RunRecord]:
    """The records of an experiment, `<output_dir>/runs/exp003`; a copied folder is not one."""
    found = ((folder, read_record(folder)) for folder in sorted(experiment_folder.glob("seed-*")))
    output_dir = experiment_folder.parent.parent
    return [record for folder, record in found if record and recorded_folder(output_dir, record) == folder]


def read_record(folder: Path, name: str = RECORD) -> RunRecord | None:
    """Read a run folder's record; `None` where there is none or it is damaged.

    Raises:
        RequestError: it cannot be read, or a newer version of cifar-report wrote it.
    """
    try:
        content = (folder / name).read_bytes()
        # By its first field alone: what it has beside may be unknown.
        if (version := int(re.findall(rb'"schema_version": *(\d+)', content)[0])) > SCHEMA_VERSION:
            raise RequestError(
                f"{folder} was written by a newer version of cifar-report (records of version {version}, this one "
                f"writes {SCHEMA_VERSION}); update cifar-report, or choose another folder with --output"
            )
        return RunRecord.model_validate_json(content)
    except (FileNotFoundError, NotADirectoryError, ValueError, IndexError):
        return None
    except OSError as error:
        raise RequestError(f"cannot read {folder / name}: {error.strerror}") from None


def read_history(folder: Path) -> list[EpochRecord]:
    """The rows of a run's history.csv, up to one that is damaged or not fully written."""
    found: list[EpochRecord] = []
    with suppress(OSError, ValueError, TypeError), (folder / HISTORY).open(newline="") as stream:
        found.extend(map(EpochRecord.model_validate, csv.DictReader(stream)))
    return found


def read_progress(folder: Path) -> Progress | None:
    """What an interrupted run left to go on from; `None` where there is no checkpoint, or none that says what it is."""
    with suppress(OSError, ValidationError):
        if (folder / CHECKPOINT).is_file():
            return Progress.model_validate_json((folder / PROGRESS).read_bytes())
    return None


def write_record(folder: Path, record: RunRecord, name: str = RECORD) -> None:
    """Write `run.json`, the last file of a run, in one step."""
    write_text(folder / name, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")


def now() -> str:
    """Current time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
