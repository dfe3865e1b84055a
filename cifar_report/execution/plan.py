"""The plan: which runs a request means, each with its key, all validated before anything is executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cifar_report.data.cache import load_images
from cifar_report.data.split_check import check_split
from cifar_report.execution.resources import RELATIVE_COST, UNKNOWN_COST, gpus
from cifar_report.experiments.catalog import Family, load_catalog, load_experiment
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, validate
from cifar_report.experiments.sweep import combinations, split_sweep_name, sweep_name
from cifar_report.records import record as records
from cifar_report.records.files import CHECKPOINT, RECORD, WEIGHTS
from cifar_report.records.key import key_facts, run_key, stale_because
from cifar_report.records.lock import require_locks
from cifar_report.records.predictions import read_predictions
from cifar_report.records.verified import valid_keys
from cifar_report.training.weights import find_weights

# Overrides that the command line expresses in another way.
RESERVED = {"experiment": "name the experiment instead", "seed": "use --seeds", "output_dir": "use --output"}


@dataclass(frozen=True)
class RunState:
    """`status` is complete, stale, failed, diverged, unfinished or missing; `reason` says why."""

    status: str
    reason: str = ""


@dataclass(frozen=True)
class PlannedRun:
    """One run to execute: its resolved parameters, its notebook, and what its result depends on."""

    parameters: Experiment
    family: Family
    facts: records.KeyFacts
    problems: Mapping[str, str] = field(default_factory=dict)  # why data or weights were not found on this machine

    @property
    def name(self) -> str:
        return records.run_name(self.parameters.experiment, self.parameters.model_dump())

    @property
    def folder(self) -> Path:
        e = self.parameters
        return records.run_folder(e.output_dir, e.experiment, e.seed, fold=e.fold, folds=e.folds)

    @cached_property
    def key(self) -> str:
        return run_key(self.parameters, self.facts)

    def state(self) -> RunState:
        """What the run's folder holds now.

        A complete run whose real data or weights are not on this machine stays complete: a run with a stand-in would
        be no better.
        """
        record = records.read_record(self.folder)
        if record is None:
            damaged = (self.folder / RECORD).exists()
            return RunState("stale", "its record cannot be read") if damaged else self._unfinished()
        if records.recorded_folder(self.parameters.output_dir, record) != self.folder:  # a copied folder
            return RunState("stale", "its record is of another experiment, seed or fold")
        facts, not_compared = self._comparable_facts(record)
        changed = "; ".join(stale_because(record, self.parameters, facts))
        if record.status == "failed":
            error = f"{record.error.type}: {record.error.message}".splitlines()[0] if record.error else ""
            if record.diverged and not changed:
                return RunState("diverged", error)
            return RunState("failed", f"{error} (since then {changed})" if changed else error)
        if run_key(self.parameters, facts) not in valid_keys(self.folder, record):
            return RunState("stale", changed)
        if damage := damaged_results(self.folder, record):
            return RunState("stale", damage)
        # Only `predict` needs the trained weights, so records are kept and shared without them.
        not_stored = "" if (self.folder / WEIGHTS).exists() else "its trained weights are not stored here"
        return RunState("complete", "; ".join(filter(None, [not_compared, self._computed_with(record), not_stored])))

    def is_complete(self) -> bool:
        """Whether the folder holds the complete result of exactly this run."""
        return self.state().status == "complete"

    def finished_epochs(self) -> int:
        """Epochs after which an interrupted execution of exactly this run can be resumed."""
        progress = records.read_progress(self.folder)
        if progress is None:
            return 0
        recorded = progress.facts.model_dump(include=set(self.problems)) if progress.facts else {}
        facts = self.facts.model_copy(update=recorded)
        return progress.epochs if progress.key == run_key(self.parameters, facts) else 0

    def _computed_with(self, record: records.RunRecord) -> str:
        """The torch and the kind of device of a recorded run, where this machine has others: no key contains them."""
        used, kind = record.environment, "cuda" if self.parameters.device != "cpu" and gpus() else "cpu"
        mine = (version("torch").partition("+")[0], kind)
        if used and (used.torch.partition("+")[0], used.device.partition(":")[0]) != mine:
            return f"computed with torch {used.torch} on {used.device_name}"
        return ""

    def _unfinished(self) -> RunState:
        if epochs := self.finished_epochs():
            return RunState("unfinished", f"after epoch {epochs} of {self.parameters.epochs}")
        other = records.read_progress(self.folder) is not None
        return RunState("missing", "the checkpoint there is of other parameters or code" if other else "")

    def _comparable_facts(self, record: records.RunRecord) -> tuple[records.KeyFacts, str]:
        """This run's facts, with those of the record in place of what is not on this machine; and a note of that."""
        recorded, known = {}, record.key_facts
        if known and "data" in self.problems and not (record.data and record.data.stand_in):
            recorded["data"] = known.data
        if known and "weights" in self.problems and known.weights is not None:
            recorded["weights"] = known.weights
        note = f"its {' and '.join(recorded)} are not on this machine and were not compared" if recorded else ""
        return self.facts.model_copy(update=recorded), note


def damaged_results(folder: Path, record: records.RunRecord) -> str:
    """Which of a complete run's files is missing or contradicts its record; an empty text if none does."""
    predictions = read_predictions(folder)
    if predictions is None:
        return "predictions.npz is missing or damaged"
    correct, total = int(predictions.correct.sum()), len(predictions.labels)
    if record.test is None or (record.test.correct, record.test.total) != (correct, total):
        return "predictions.npz contradicts run.json"
    if record.test.accuracy != correct / total:
        return "run.json contradicts itself"
    replaced = (folder / CHECKPOINT).exists()  # by a run with other parameters, which is unfinished
    known = [list(map(repr, epochs)) for epochs in (records.read_history(folder), record.epochs)]  # NaN equals nothing
    if not replaced and known[0] != known[1]:
        return "history.csv is missing or damaged, or contradicts run.json"
    weights = folder / WEIGHTS
    try:
        if weights.exists():
            with safe_open(weights, framework="numpy"):  # compares the header with the file's length
                pass
    except (OSError, SafetensorError):
        return "model.safetensors is damaged"
    return ""


def make_plan(
    experiments: Iterable[str] = (),
    *,
    profile: str,
    seeds: Sequence[int] = (0,),
    overrides: Mapping[str, Any] | None = None,
    output_dir: Path,
    remote: bool = False,
    read_only: bool = False,
) -> list[PlannedRun]:
    """Resolve a request into runs, in journal order. Writes nothing below `output_dir`.

    Args:
        experiments: as `Catalog.select` takes them; none: all.
        overrides: parameters that apply to all runs; of several values of one, each is an experiment of its own.
        remote: the runs are executed on other machines: the GPUs of this one do not matter.
        read_only: the runs are only inspected: nothing is downloaded, and missing data or weights are no error.

    Raises:
        RequestError: something about the request is wrong, or its data or weights are not found.
    """
    for name in overrides or {}:
        if name in RESERVED:
            raise RequestError(f"'{name}' cannot be set: {RESERVED[name]}")
    resolved = []
    for name in load_catalog().select(experiments):
        for swept, given in combinations(overrides or {}):
            e = load_experiment(name, profile=profile, overrides=given | {"output_dir": str(output_dir.resolve())})
            values = {parameter: getattr(e, parameter) for parameter in swept}
            resolved.append(e.model_copy(update={"experiment": sweep_name(name, values)}))
    seeded = [[validate({**parameters.model_dump(), "seed": seed}) for seed in seeds] for parameters in resolved]
    if not read_only:
        check_writable(output_dir)
    for device in {parameters.device for parameters in resolved}:
        if device.startswith("cuda:"):  # each run sees one GPU, whichever the executor gave it
            raise RequestError(f"device={device} is for notebooks; set CUDA_VISIBLE_DEVICES to choose GPUs here")
        if device == "cuda" and not (remote or read_only or gpus()):
            raise RequestError("device=cuda is set, but this machine has no NVIDIA GPU; set device=auto")
    plan = [run for runs in seeded for run in _with_inputs(runs, read_only=read_only)]
    folders: set[Path] = set()
    for run in plan:
        if run.folder in folders:
            raise RequestError(f"{run.name} is planned twice; give values of --set that differ")
        folders.add(run.folder)
    return plan


def _with_inputs(seeded: Sequence[Experiment], *, read_only: bool) -> list[PlannedRun]:
    """The runs of one experiment, which differ in their seeds only: data and weights are looked up once.

    `read_only`: nothing is downloaded, and what is not found, or cannot be read, is a problem and no error.
    """
    e, data_sha256, weights = seeded[0], "", None
    if read_only:
        e = e.model_copy(update={"offline": "stand_in"})
    problems: dict[str, str | None] = {}
    try:
        images, problems["data"] = load_images(
            e.dataset, data_dir=e.data_dir, offline=e.offline, size=e.image_size, download=not read_only
        )
        data_sha256 = images.sha256
    except RequestError as error:
        if e.dataset == "folder" or not read_only:
            raise
        problems["data"] = str(error)
    if not problems["data"]:  # a stand-in says nothing of what the data allow
        check_split(images, e)
    try:
        if e.weights:
            _, weights, problems["weights"] = find_weights(e, download=not read_only)
    except RequestError as error:
        if not read_only:
            raise
        problems["weights"] = str(error)
    family = load_catalog().family_of[split_sweep_name(e.experiment)[0]]
    facts = key_facts(e, family.notebook_path, data_sha256, weights.sha256 if weights else None)
    found = {name: problem for name, problem in problems.items() if problem}
    return [PlannedRun(run, family, facts, found) for run in seeded]


def longest_first(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """The order in which parallel runs end soonest: by floating point operations."""

    def cost(run: PlannedRun) -> float:
        e = run.parameters
        images = min(e.train_limit or 50_000, 50_000) * e.epochs
        return RELATIVE_COST.get(e.model, UNKNOWN_COST) * e.image_size**2 * images

    return sorted(runs, key=cost, reverse=True)


def check_writable(folder: Path) -> Path:
    """Refuse an output folder that cannot be written or locked, without creating it; returns what there is of it."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    require_locks(existing)
    return existing
