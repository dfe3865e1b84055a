"""How long runs will take, from recorded runs. What this machine's speed gives is in `speed`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from cifar_report.execution.plan import PlannedRun
from cifar_report.experiments.schema import Experiment
from cifar_report.records.record import RunRecord, read_runs

STARTUP = 2.0  # seconds that a run costs beyond its training: `make bench PARTS=around`

# Floating point operations of training on an image of 32 pixels, relative to Net's.
RELATIVE_COST = {"net": 1, "lenet": 5, "mobilenet_v2": 9, "efficientnet_b0": 49, "resnet18": 57, "vgg16": 664}


def estimate_seconds(run: PlannedRun) -> float | None:
    """Seconds that are left of a run, by the latest run of the experiment on any profile; `None` if there is none."""
    earlier = [record for record in _earlier(run) if record.data and record.epochs and record.seconds.train]
    if not earlier:
        return None
    record = max(earlier, key=lambda r: r.finished_at)
    assert record.data is not None  # chosen above
    recorded, images = record.parameters, record.data.train_size
    per_pixel = record.seconds.train / (images * len(record.epochs) * recorded["image_size"] ** 2)
    unlimited = recorded["train_limit"] is None and recorded["dataset"] == run.parameters.dataset
    pixels = _pixels(run.parameters, images if unlimited else 50_000)
    return STARTUP + per_pixel * pixels * (1 - run.finished_epochs() / run.parameters.epochs)


def relative_cost(parameters: Experiment) -> float:
    """A number that is larger the longer a run takes."""
    return RELATIVE_COST[parameters.model] * _pixels(parameters, 50_000)


def longest_first(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """The order in which parallel runs end soonest: by estimated time, or else by cost scaled to such times."""
    pairs = [(run, estimate_seconds(run)) for run in runs]
    known = [(seconds, relative_cost(run.parameters)) for run, seconds in pairs if seconds is not None]
    scale = sum(seconds for seconds, _ in known) / sum(cost for _, cost in known) if known else 1
    ordered = sorted(pairs, key=lambda pair: pair[1] or scale * relative_cost(pair[0].parameters), reverse=True)
    return [run for run, _ in ordered]


def _pixels(parameters: Experiment, whole: int) -> float:
    images = min(parameters.train_limit or whole, 50_000)
    return images * parameters.epochs * parameters.image_size**2


def _earlier(run: PlannedRun) -> list[RunRecord]:
    """Complete records of the experiment beside and below the run's output folder."""
    outputs = Path(run.parameters.output_dir).parent
    return _records(outputs, run.parameters.experiment.lower())


@cache
def _records(outputs: Path, experiment: str) -> list[RunRecord]:
    found = [record for folder in outputs.glob(f"*/runs/{experiment}") for record in read_runs(folder)]
    return [record for record in found if record.status == "completed"]
