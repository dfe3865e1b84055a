"""The plan: which runs a request means, each with its key, all validated before anything happens."""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cifar_report.catalog import Family, load_catalog, load_experiment
from cifar_report.data.cache import load_images
from cifar_report.data.splits import split
from cifar_report.errors import RequestError
from cifar_report.experiment import Experiment, validate
from cifar_report.key import key_facts, run_key, stale_because
from cifar_report.pipeline.resources import gpus
from cifar_report.record import KeyFacts, RunRecord, read_record, refuse_newer, run_folder
from cifar_report.weights import find_weights

# Overrides that the command line expresses in another way.
RESERVED = {"experiment": "name the experiment instead", "seed": "use --seeds", "output_dir": "use --output"}


@dataclass(frozen=True)
class PlannedRun:
    """One run to come: its resolved parameters, its notebook, and the key of its result."""

    parameters: Experiment
    family: Family
    facts: KeyFacts
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.parameters.experiment} seed {self.parameters.seed}"

    @property
    def folder(self) -> Path:
        return run_folder(self.parameters.output_dir, self.parameters.experiment, self.parameters.seed)

    @cached_property
    def key(self) -> str:
        return run_key(self.parameters, self.facts)

    def state(self) -> RunState:
        """What the run's folder holds now."""
        record = read_record(self.folder)
        if record is None or record.status == "failed":
            epochs = self._finished_epochs()
            if record is None and epochs:
                return RunState("unfinished", f"after epoch {epochs} of {self.parameters.epochs}")
            if record is None:
                damaged = (self.folder / "run.json").exists()
                return RunState("stale", "its record cannot be read") if damaged else RunState("missing")
            error = record.error
            return RunState("failed", f"{error.type}: {error.message}".splitlines()[0] if error else "")
        if record.key != self.key:
            return RunState("stale", "; ".join(stale_because(record, self.parameters, self.facts)))
        damage = damaged_results(self.folder, record)
        return RunState("stale", damage) if damage else RunState("complete")

    def is_complete(self) -> bool:
        """Whether the folder holds this very run's complete result."""
        return self.state().word == "complete"

    def _finished_epochs(self) -> int:
        """Finished epochs of an interrupted run, by its history; 0 without a checkpoint to go on from."""
        if not (self.folder / "checkpoint.pt").is_file():
            return 0
        try:
            return max(0, len((self.folder / "history.csv").read_text().splitlines()) - 1)
        except OSError:
            return 0


@dataclass(frozen=True)
class RunState:
    """`word` is complete, stale, failed, unfinished or missing; `because` says more."""

    word: str
    because: str = ""


def damaged_results(folder: Path, record: RunRecord) -> str:
    """Say which of a complete run's files is missing or contradicts its record; an empty text if none does."""
    try:
        with np.load(folder / "predictions.npz", allow_pickle=False) as stored:
            correct, total = int((stored["predicted"] == stored["labels"]).sum()), len(stored["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return "predictions.npz is missing or damaged"
    if record.test is None or (record.test.correct, record.test.total) != (correct, total):
        return "predictions.npz contradicts run.json"
    try:
        with (folder / "history.csv").open(newline="") as stream:
            losses = [float(row["validation_loss"]) for row in csv.DictReader(stream)]
    except (OSError, ValueError, KeyError, TypeError):
        return "history.csv is missing or damaged"
    if losses != [epoch.validation_loss for epoch in record.epochs]:
        return "history.csv contradicts run.json"
    if not (folder / "model.safetensors").is_file():
        return "model.safetensors is missing"
    return ""


def make_plan(
    experiments: Iterable[str] = (),
    *,
    profile: str,
    seeds: Sequence[int] = (0,),
    overrides: Mapping[str, Any] | None = None,
    output_dir: Path,
    elsewhere: bool = False,
) -> list[PlannedRun]:
    """Resolve a request into runs, in journal order. Writes nothing below `output_dir`.

    `elsewhere`: the runs will not be executed on this machine, so what devices it has does not matter.

    Raises:
        RequestError: anything about the request is wrong, or data or weights it needs can be had nowhere.
    """
    for name in overrides or {}:
        if name in RESERVED:
            raise RequestError(f"'{name}' cannot be set: {RESERVED[name]}")
    catalog = load_catalog()
    given = {**(overrides or {}), "output_dir": str(output_dir.resolve())}
    resolved = [load_experiment(name, profile=profile, overrides=given) for name in catalog.select(experiments)]
    seeded = [[validate({**parameters.model_dump(), "seed": seed}) for seed in seeds] for parameters in resolved]
    check_writable(output_dir)
    for parameters in resolved:
        if parameters.device.startswith("cuda:"):  # each run sees one GPU, whichever the executor gave it
            raise RequestError(
                f"device={parameters.device} is for notebooks by hand; here set CUDA_VISIBLE_DEVICES to choose GPUs"
            )
    if not elsewhere and not gpus() and any(parameters.device.startswith("cuda") for parameters in resolved):
        raise RequestError("device=cuda was asked for, but this machine has no NVIDIA GPU; set device=auto")
    plan = [run for runs in seeded for run in _planned(runs)]
    for run in plan:
        refuse_newer(run.folder)
    return plan


def _planned(seeded: Sequence[Experiment]) -> list[PlannedRun]:
    """The runs of one experiment, which differ in their seeds alone: what they depend on is looked up once."""
    parameters = seeded[0]
    family = load_catalog().family_of(parameters.experiment)
    assert family is not None  # selected from the catalog
    images, data_warning = load_images(parameters.dataset, data_dir=parameters.data_dir, offline=parameters.offline)
    split(images.labels, images.train_size, parameters)  # refuses a holdout that leaves nothing to train on
    weights, weights_warning = None, None
    if parameters.weights:
        _, weights, weights_warning = find_weights(parameters)
    facts = key_facts(parameters, family.notebook_path, images.sha256, weights.sha256 if weights else None)
    warnings = tuple(warning for warning in (data_warning, weights_warning) if warning)
    return [PlannedRun(parameters, family, facts, warnings) for parameters in seeded]


def check_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be written, without creating it.

    Raises:
        RequestError: names the folder, or its nearest existing parent.
    """
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise RequestError(f"cannot write to {folder}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RequestError(f"cannot write to {folder}: no permission to write in {existing}")
