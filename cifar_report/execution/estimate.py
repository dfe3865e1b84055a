"""How long runs will take, from runs on record."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from cifar_report.execution.plan import PlannedRun
from cifar_report.experiments.schema import Experiment
from cifar_report.records.record import RunRecord, read_runs

STARTUP = 2.0  # seconds that a run costs beyond its training: `make bench PARTS=around`

# Training cost of an image at 32 pixels relative to Net's, by floating point operations: only to order runs that
# nothing is on record of.
RELATIVE_COST = {"net": 1, "lenet": 5, "mobilenet_v2": 9, "efficientnet_b0": 49, "resnet18": 57, "vgg16": 664}


def estimate_seconds(run: PlannedRun) -> float | None:
    """Seconds that are left of a run, by earlier runs of the experiment on any profile; `None` if there are none."""
    earlier = [record for record in _earlier(run) if record.data and record.epochs and record.seconds.train]
    if not earlier:
        return None
    record = max(earlier, key=lambda r: r.finished_at)
    assert record.data is not None  # chosen above
    per_pixel = record.seconds.train / (
        record.data.train_size * len(record.epochs) * record.parameters["image_size"] ** 2
    )
    unlimited = record.parameters["train_limit"] is None and record.parameters["dataset"] == run.parameters.dataset
    pixels = _pixels(run.parameters, record.data.train_size if unlimited else 50_000)
    return STARTUP + per_pixel * pixels * (1 - run.finished_epochs() / run.parameters.epochs)


def relative_cost(parameters: Experiment) -> float:
    """A number that is larger the longer a run takes."""
    return RELATIVE_COST[parameters.model] * _pixels(parameters, 50_000)


def longest_first(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """The order in which parallel runs end soonest: estimated time where it is on record, relative cost elsewhere."""
    runs = list(runs)
    seconds = {id(run): estimate_seconds(run) for run in runs}
    known = [run for run in runs if seconds[id(run)] is not None]
    scale = sum(seconds[id(r)] or 0 for r in known) / sum(relative_cost(r.parameters) for r in known) if known else 1
    return sorted(runs, key=lambda r: seconds[id(r)] or scale * relative_cost(r.parameters), reverse=True)


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
