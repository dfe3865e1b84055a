"""How long a run takes on this machine, from its own training measured on a few images."""

from __future__ import annotations

import json
from contextlib import redirect_stdout, suppress
from itertools import pairwise
from time import perf_counter, process_time

import torch

from cifar_report.data.cache import load_images
from cifar_report.data.dataset import load_dataset
from cifar_report.data.download import cache_folder
from cifar_report.execution.plan import PlannedRun
from cifar_report.execution.resources import RELATIVE_COST, STARTUP, UNKNOWN_COST
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import PLACE_PARAMETERS, Experiment
from cifar_report.records.files import write_text
from cifar_report.training.build import build_model
from cifar_report.training.environment import describe_environment, find_device
from cifar_report.training.loop import train
from cifar_report.training.memory import keep_freed_memory, suppress_out_of_memory
from cifar_report.training.precision import choose_precision

SLOW = 10.0  # seconds of an epoch beside which warming up counts for nothing
SIZES = {"cifar10": (50_000, 10_000), "digits": (1442, 355)}  # training and test images


def seconds_left(run: PlannedRun) -> float:
    """Seconds that are left of a run that has this machine for itself.

    Measurements are kept in the cache folder, by machine and by what is trained. `compile` is not considered.

    Raises:
        RequestError: the run's device is not on this machine, or has too little memory.
    """
    e = run.parameters
    images, test = SIZES.get(e.dataset, (0, 0))
    if e.dataset == "folder":
        pictures, _ = load_images(e.dataset, data_dir=e.data_dir, size=e.image_size)
        images, test = pictures.train_size, len(pictures.labels) - pictures.train_size
    test = min(test, e.test_limit or test)
    held_out = {"test": 0, "holdout": e.holdout_size, "fold": images // (e.folds or 1)}[e.validation]
    images = min(images - held_out, e.train_limit or images)
    once, epoch = _speed(e, (held_out or test) / images)
    return STARTUP + images * (once + epoch * (e.epochs - run.finished_epochs()))


def _speed(e: Experiment, validation: float) -> list[float]:
    """Seconds a training image that computing the frozen part takes, once, and that every epoch takes."""
    device, file = find_device(e.device), cache_folder() / "speed.json"
    machine = describe_environment(device)
    affordable = min(1024, 12_000 * 32**2 // (RELATIVE_COST.get(e.model, UNKNOWN_COST) * e.image_size**2))
    # Whole batches of the run's size: with few images each, the optimizer's step would take most of the time.
    images = min(SIZES["digits"][0], e.batch_size * max(4 if device.type == "cuda" else 1, affordable // e.batch_size))
    small = {"train_limit": images, "test_limit": max(1, round(images * validation)), "lr": 1e-6}
    fixed = {"dataset": "digits", "validation": "test", "weights": None, "schedule": "constant", "compile": False}
    e = e.model_copy(update={**small, **fixed, "precision": choose_precision(e, device), "seed": 0})
    work = e.model_dump(mode="json", exclude={"experiment", "epochs", *PLACE_PARAMETERS})
    key = json.dumps([machine.device_name, machine.threads, machine.torch, work])
    known: dict[str, list[float]] = {}
    with suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(file.read_text()))
    if key not in known:
        with suppress_out_of_memory():
            known[key] = [seconds / images for seconds in _measure(e, device)]
        if key not in known:
            raise RequestError(f"a step of {e.batch_size} images does not fit in the memory of {machine.device_name}")
        with suppress(OSError):
            write_text(file, json.dumps(known, indent=1))
    return known[key]


def _measure(e: Experiment, device: torch.device) -> tuple[float, float]:
    """Seconds that computing the frozen part and that an epoch take, with its validation."""
    keep_freed_memory()
    dataset = load_dataset(e, device)
    model = build_model(e, len(dataset.classes))[0].to(device)
    times: list[tuple[float, ...]] = []
    for epochs in (1, 3):  # the first training warms up, which a slow one need not
        times[:] = [_clock(device)]
        with redirect_stdout(None):
            again = e.model_copy(update={"epochs": epochs})
            train(model, dataset, again, on_epoch=lambda _: times.append(_clock(device)))
        first, *later = (min(b - a for a, b in zip(*pair, strict=True)) for pair in pairwise(times))
        if first > SLOW and e.trainable == "all":
            return 0.0, first
    return (max(0.0, first - min(later)) if e.trainable != "all" else 0.0), min(later)


def _clock(device: torch.device) -> tuple[float, ...]:
    """Now, in seconds; on a CPU also in processor time, which does not pass while other processes have the cores."""
    return (perf_counter(), process_time()) if device.type == "cpu" else (perf_counter(),)
