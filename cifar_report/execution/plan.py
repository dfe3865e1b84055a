"""The plan: which runs a request means, each with its key, all validated before anything happens."""

from __future__ import annotations

import csv
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cifar_report.data.cache import load_images
from cifar_report.data.download import OFFLINE
from cifar_report.data.splits import split
from cifar_report.execution.resources import gpus
from cifar_report.experiments.catalog import Family, load_catalog, load_experiment
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, validate
from cifar_report.records.key import key_facts, run_key, stale_because
from cifar_report.records.predictions import read_predictions
from cifar_report.records.record import (
    EpochRecord,
    KeyFacts,
    RunRecord,
    read_progress,
    read_record,
    refuse_newer,
    run_folder,
)
from cifar_report.records.verification import keys
from cifar_report.training.weights import find_weights

# Nothing but `predict` needs the trained weights, so records are kept and shared without them.
WITHOUT_WEIGHTS = "its trained weights are not kept here"

# Overrides that the command line expresses in another way.
RESERVED = {"experiment": "name the experiment instead", "seed": "use --seeds", "output_dir": "use --output"}


@dataclass(frozen=True)
class PlannedRun:
    """One run to come: its resolved parameters, its notebook, and the key of its result."""

    parameters: Experiment
    family: Family
    facts: KeyFacts
    warnings: tuple[str, ...]
    absent: frozenset[str] = frozenset()  # which of data and weights are not at hand, so that others stand in
    local_weights: str | None = None  # what its weights are, if they are the user's own file

    @property
    def name(self) -> str:
        return f"{self.parameters.experiment} seed {self.parameters.seed}"

    @property
    def folder(self) -> Path:
        e = self.parameters
        return run_folder(e.output_dir, e.experiment, e.seed, fold=e.fold, folds=e.folds)

    @cached_property
    def key(self) -> str:
        return run_key(self.parameters, self.facts)

    def state(self) -> RunState:
        """What the run's folder holds now.

        A complete run with real data or weights that are not at hand now stays complete: what stands in for them makes
        nothing better.
        """
        record = read_record(self.folder)
        if record is None:
            damaged = (self.folder / "run.json").exists()
            return RunState("stale", "its record cannot be read") if damaged else self._unfinished()
        facts, not_compared = self._facts_beside(record)
        changed = "; ".join(stale_because(record, self.parameters, facts))
        if record.status == "failed":
            error = f"{record.error.type}: {record.error.message}".splitlines()[0] if record.error else ""
            return RunState("failed", f"{error} (since then {changed})" if changed else error)
        if run_key(self.parameters, facts) not in keys(self.folder, record):
            return RunState("stale", changed)
        if damage := damaged_results(self.folder, record):
            return RunState("stale", damage)
        kept = (self.folder / "model.safetensors").exists()
        return RunState("complete", "; ".join(filter(None, [not_compared, "" if kept else WITHOUT_WEIGHTS])))

    def is_complete(self) -> bool:
        """Whether the folder holds this very run's complete result."""
        return self.state().word == "complete"

    def finished_epochs(self) -> int:
        """Epochs that an interrupted execution of this very run has finished, to go on after."""
        progress = read_progress(self.folder)
        if progress is None:
            return 0
        theirs = progress.facts.model_dump(include=set(self.absent)) if progress.facts else {}
        facts = self.facts.model_copy(update=theirs)
        return progress.epochs if progress.key == run_key(self.parameters, facts) else 0

    def _unfinished(self) -> RunState:
        if epochs := self.finished_epochs():
            return RunState("unfinished", f"after epoch {epochs} of {self.parameters.epochs}")
        left = read_progress(self.folder) is not None
        return RunState("missing", "what is left of an interrupted run is of other parameters or code" if left else "")

    def _facts_beside(self, record: RunRecord) -> tuple[KeyFacts, str]:
        """What this run depends on, where that is not at hand as the record has it; and in words what that was."""
        theirs, known = {}, record.key_facts
        if known and "data" in self.absent and not (record.data and record.data.stand_in):
            theirs["data"] = known.data
        if known and "weights" in self.absent and known.weights is not None:
            theirs["weights"] = known.weights
        words = f"its {' and '.join(theirs)} are not at hand, and not compared" if theirs else ""
        return self.facts.model_copy(update=theirs), words


@dataclass(frozen=True)
class RunState:
    """`word` is complete, stale, failed, unfinished or missing; `because` says more."""

    word: str
    because: str = ""


def damaged_results(folder: Path, record: RunRecord) -> str:
    """Say which of a complete run's files is missing or contradicts its record; an empty text if none does."""
    predictions = read_predictions(folder)
    if predictions is None:
        return "predictions.npz is missing or damaged"
    correct, total = int(predictions.correct.sum()), len(predictions.labels)
    if record.test is None or (record.test.correct, record.test.total) != (correct, total):
        return "predictions.npz contradicts run.json"
    if record.test.accuracy != correct / total:
        return "run.json contradicts itself"
    try:
        with (folder / "history.csv").open(newline="") as stream:
            history = [EpochRecord.model_validate(row) for row in csv.DictReader(stream)]
    except (OSError, ValueError, TypeError):
        return "history.csv is missing or damaged"
    if list(map(repr, history)) != list(map(repr, record.epochs)):  # NaN equals nothing
        return "history.csv contradicts run.json"
    weights = folder / "model.safetensors"
    return "model.safetensors is damaged" if weights.exists() and not _is_whole(weights) else ""


def _is_whole(weights: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    try:
        with weights.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, weights.stat().st_size)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return weights.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, struct.error, AttributeError):
        return False


def make_plan(
    experiments: Iterable[str] = (),
    *,
    profile: str,
    seeds: Sequence[int] = (0,),
    overrides: Mapping[str, Any] | None = None,
    output_dir: Path,
    elsewhere: bool = False,
    look: bool = False,
) -> list[PlannedRun]:
    """Resolve a request into runs, in journal order. Writes nothing below `output_dir`.

    Args:
        experiments: as `Catalog.select` takes them; none: all.
        profile: name of a profile.
        seeds: one run of each experiment for each.
        overrides: parameters that apply to all.
        output_dir: folder that holds `runs/`.
        elsewhere: the runs will not be executed on this machine, so what devices it has does not matter.
        look: only to see what is there: nothing is fetched, and what is not at hand is no error.

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
    if not look:
        check_writable(output_dir)
    for parameters in resolved:
        if parameters.device.startswith("cuda:"):  # each run sees one GPU, whichever the executor gave it
            raise RequestError(
                f"device={parameters.device} is for notebooks by hand; here set CUDA_VISIBLE_DEVICES to choose GPUs"
            )
    if (
        not elsewhere
        and not look
        and not gpus()
        and any(parameters.device.startswith("cuda") for parameters in resolved)
    ):
        raise RequestError("device=cuda was asked for, but this machine has no NVIDIA GPU; set device=auto")
    with _no_downloads() if look else nullcontext():
        plan = [run for runs in seeded for run in _planned(runs, look)]
    for run in plan:
        refuse_newer(run.folder)
    return plan


@contextmanager
def _no_downloads() -> Iterator[None]:
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFFLINE]
        else:
            os.environ[OFFLINE] = before


def _planned(seeded: Sequence[Experiment], look: bool) -> list[PlannedRun]:
    """The runs of one experiment, which differ in their seeds alone: what they depend on is looked up once."""
    parameters = seeded[0]
    family = load_catalog().family_of(parameters.experiment)
    assert family is not None  # selected from the catalog
    wanted = parameters.model_copy(update={"offline": "stand_in"}) if look else parameters
    found: dict[str, str | None] = {"data": None, "weights": None}
    data_sha256, weights_sha256, local_weights = "", None, None
    with _noted(found, "data") if look else nullcontext():
        images, found["data"] = load_images(wanted.dataset, data_dir=wanted.data_dir, offline=wanted.offline)
        data_sha256 = images.sha256
        if not look:
            split(images.labels, images.train_size, parameters)  # refuses a holdout that leaves nothing to train on
    with _noted(found, "weights") if look else nullcontext():
        if parameters.weights:
            _, weights, found["weights"] = find_weights(wanted)
            weights_sha256 = weights.sha256 if weights else None
            if weights and weights.is_local:
                local_weights = f"ImageNet weights of {parameters.model}: {weights.source}, SHA-256 {weights.sha256}"
    facts = key_facts(parameters, family.notebook_path, data_sha256, weights_sha256)
    warnings = tuple(warning for warning in found.values() if warning)
    absent = frozenset(name for name, warning in found.items() if warning)
    return [PlannedRun(parameters, family, facts, warnings, absent, local_weights) for parameters in seeded]


@contextmanager
def _noted(found: dict[str, str | None], what: str) -> Iterator[None]:
    """What is wrong with a copy of data or weights is noted: who only looks can do without it."""
    try:
        yield
    except RequestError as error:
        found[what] = str(error)


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
