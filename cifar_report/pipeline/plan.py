"""The plan: which runs a request means, each with its key, all validated before anything happens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_report.catalog import Family, load_catalog, load_experiment
from cifar_report.data.cache import load_images
from cifar_report.data.splits import split
from cifar_report.errors import RequestError
from cifar_report.experiment import Experiment
from cifar_report.key import run_key
from cifar_report.record import read_record, run_folder
from cifar_report.weights import find_weights

# Overrides that the command line expresses in another way.
RESERVED = {"experiment": "name the experiment instead", "seed": "use --seeds", "output_dir": "use --output"}


@dataclass(frozen=True)
class PlannedRun:
    """One run to come: its resolved parameters, its notebook and the key of the result."""

    parameters: Experiment
    family: Family
    key: str
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.parameters.experiment} seed {self.parameters.seed}"

    @property
    def folder(self) -> Path:
        return run_folder(self.parameters.output_dir, self.parameters.experiment, self.parameters.seed)

    def is_complete(self) -> bool:
        """Whether the folder holds this very run's complete result."""
        record = read_record(self.folder)
        return (
            record is not None
            and record.status == "completed"
            and record.key == self.key
            and all((self.folder / name).is_file() for name in ("predictions.npz", "model.safetensors"))
        )


def make_plan(
    experiments: Iterable[str] = (),
    *,
    profile: str,
    seeds: Sequence[int] = (0,),
    overrides: Mapping[str, Any] | None = None,
    output_dir: Path,
) -> list[PlannedRun]:
    """Resolve a request into runs, in journal order. Writes nothing below `output_dir`.

    Raises:
        RequestError: anything about the request is wrong, or data or weights it needs can be had nowhere.
    """
    for name in overrides or {}:
        if name in RESERVED:
            raise RequestError(f"'{name}' cannot be set: {RESERVED[name]}")
    catalog = load_catalog()
    resolved = [
        load_experiment(
            name,
            profile=profile,
            overrides={**(overrides or {}), "seed": seed, "output_dir": str(output_dir.resolve())},
        )
        for name in catalog.select(experiments)
        for seed in seeds
    ]
    check_writable(output_dir)
    return [_planned(parameters) for parameters in resolved]


def _planned(parameters: Experiment) -> PlannedRun:
    family = load_catalog().family_of(parameters.experiment)
    assert family is not None  # selected from the catalog
    images, data_warning = load_images(parameters.dataset, data_dir=parameters.data_dir, offline=parameters.offline)
    split(images.labels, images.train_size, parameters)  # refuses a holdout that leaves nothing to train on
    weights, weights_warning = None, None
    if parameters.weights:
        _, weights, weights_warning = find_weights(parameters)
    return PlannedRun(
        parameters=parameters,
        family=family,
        key=run_key(
            parameters,
            notebook=family.notebook_path,
            data_sha256=images.sha256,
            weights_sha256=weights.sha256 if weights else None,
        ),
        warnings=tuple(warning for warning in (data_warning, weights_warning) if warning),
    )


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
