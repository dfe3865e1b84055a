"""Benchmarks: each comparison side by side in one process, interleaved (A B A B …) after a warm-up.

Ratios within one run are what counts: seconds depend on the machine and on what else it is doing.

    make bench PARTS="training frozen"
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.transforms import v2

from cifar_report import __version__
from cifar_report.data.dataset import Dataset, load_dataset
from cifar_report.execution.resources import cores
from cifar_report.experiments.catalog import load_experiment
from cifar_report.experiments.schema import Experiment
from cifar_report.records.files import write_text
from cifar_report.records.record import read_record
from cifar_report.report.plots import COLOURS, STYLE, render
from cifar_report.training.augmentation import rotation
from cifar_report.training.build import build_model
from cifar_report.training.cropped import CroppedConv2d
from cifar_report.training.environment import describe_environment, find_device
from cifar_report.training.inputs import augment, to_input
from cifar_report.training.loop import Training, train, train_one_epoch
from cifar_report.training.memory import keep_freed_memory
from cifar_report.training.mixing import mix
from cifar_report.training.optimization import build_optimizer
from cifar_report.training.precision import amp_dtype, exact_float32

REPEATS = 5
BUSY = 15.0  # per cent of the processor that others may use before a warning


@dataclass
class Measurement:
    """One side of a comparison: what it is, and a number per repetition (images per second, seconds or megabytes)."""

    what: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def over(self, other: Measurement) -> float:
        """Median of the ratios of neighbouring repetitions."""
        return statistics.median(a / b for a, b in zip(self.values, other.values, strict=True))


@dataclass
class Comparison:
    """Measurements of the same work, and `ratios` of them."""

    title: str
    sides: list[Measurement]
    ratios: dict[str, float] = field(default_factory=dict)
    note: str = ""


def run_bench(parts: list[str], *, output: Path, say: Callable[[str], None] = print) -> None:
    """Run the named parts (none: all), print a table, and write `bench.json` and `bench.svg` to `output`."""
    device = find_device()
    keep_freed_memory()  # as runs do
    exact_float32()
    busy = psutil.cpu_percent(interval=1.0)
    if busy > BUSY:
        say(f"WARNING: the machine is busy ({busy:.0f} % of its processor is in use): these figures will be too low")
    comparisons = []
    for name in parts or list(PARTS):
        found = PARTS[name](device)
        _print(found)
        comparisons += found
    environment = describe_environment(device)
    say(f"{environment.device_name}, {environment.threads} threads, torch {environment.torch}, {platform.platform()}")
    content = {
        "version": __version__,
        "busy_percent": busy,
        "environment": environment.model_dump(),
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }
    write_text(output / "bench.json", json.dumps(content, indent=1) + "\n")
    write_text(output / "bench.svg", _plot(comparisons))
    say(f"written: {output / 'bench.json'}, {output / 'bench.svg'}")


def interleaved(
    title: str, unit: str, sides: Mapping[str, Callable[[], float]], *, repeats: int = REPEATS, over: str = ""
) -> Comparison:
    """Measure every side in turn, after one warm-up each. The ratios are those of the side `over` to each other one."""
    measurements = {what: Measurement(what, unit) for what in sides}
    for repeat in range(repeats + 1):
        for what, measure in sides.items():
            gc.collect()
            value = measure()
            if repeat:
                measurements[what].values.append(value)
    others = {what: other for what, other in measurements.items() if over and what != over}
    ratios = {f"{over} / {what}": measurements[over].over(other) for what, other in others.items()}
    return Comparison(title, list(measurements.values()), ratios)


class PerImage(torch.utils.data.Dataset):
    """What `torchvision.datasets.CIFAR10` does with an image: from an array to a picture, through the transforms."""

    def __init__(self, dataset: Dataset, transform: Callable) -> None:
        self.images = dataset.train.images.permute(0, 2, 3, 1).cpu().numpy()
        self.labels = dataset.train.labels.cpu().tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


HALF = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
AT_224 = transforms.Compose(
    [
        transforms.RandomHorizontalFlip(),
        transforms.Resize((224, 224)),
        transforms.RandomRotation(rotation.DEGREES),
        transforms.ToTensor(),
        HALF,
    ]
)


def bench_training(device: torch.device) -> list[Comparison]:
    """Training epochs at 32 pixels: the tutorial's pipeline, ours, and the bare step."""
    plain = transforms.Compose([transforms.ToTensor(), HALF])
    return [
        _training("Net, 32 px", load_experiment("EXP000", overrides=FLOAT32), 10_000, device, plain),
        _training("LeNet, 32 px", load_experiment("EXP003", overrides=FLOAT32), 5_000, device, plain),
        _training("ResNet-18, 32 px", load_experiment("EXP011", overrides=RANDOM), 640, device, plain),
    ]


FLOAT32 = {"precision": "float32"}  # as the tutorial computes
RANDOM = {"weights": "null", **FLOAT32}  # the speed of a network does not depend on its weights' values


def _training(
    title: str, experiment: Experiment, images: int, device: torch.device, transform: Callable, repeats: int = REPEATS
) -> Comparison:
    parameters = experiment.model_copy(update={"train_limit": images, "test_limit": 100, "offline": "stand_in"})
    dataset = load_dataset(parameters, device)
    images = len(dataset.train)
    model = build_model(parameters)[0].to(device)
    training = Training.start(model, model, dataset, parameters)

    def ours() -> float:
        started = perf_counter()
        train_one_epoch(training, dataset.train, parameters)
        return images / (perf_counter() - started)

    bare = build_model(parameters)[0].to(device)
    optimizer = build_optimizer(bare.parameters(), parameters)
    batch = dataset.train.images[: parameters.batch_size], dataset.train.labels[: parameters.batch_size]
    inputs, labels = to_input(batch[0], parameters.image_size, parameters.normalize), batch[1]
    amp = amp_dtype(parameters, device)

    def bound() -> float:
        bare.train()
        steps = -(-images // parameters.batch_size)
        started = perf_counter()
        for _ in range(steps):
            with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
                loss = F.cross_entropy(bare(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()
        return steps * len(labels) / (perf_counter() - started)

    with _apart(_tutorial, parameters, device, transform) as tutorial:
        tutorial(0)  # whichever came first would pay for what both share
        workers = max((0, 2), key=tutorial)
        sides = {f"tutorial pipeline, {workers} workers": lambda: tutorial(workers), "ours": ours, "bound": bound}
        return interleaved(f"Training epoch, {title}", "images/s", sides, repeats=repeats, over="ours")


def _tutorial(parameters: Experiment, device: torch.device, transform: Callable) -> Callable[[int], float]:
    """The training epoch as PyTorch's tutorial writes it, with so many workers; returns images per second."""
    per_image = PerImage(load_dataset(parameters, device), transform)
    model = build_model(parameters)[0].to(device).to(memory_format=torch.contiguous_format)
    for module in model.modules():
        if isinstance(module, CroppedConv2d):  # our own doing
            module.__class__ = nn.Conv2d
    optimizer = TUTORIAL_OPTIMIZERS[parameters.optimizer](model.parameters())

    def epoch(workers: int) -> float:
        loader = DataLoader(per_image, batch_size=parameters.batch_size, shuffle=True, num_workers=workers)
        model.train()
        started, running = perf_counter(), 0.0
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()
        return len(per_image) / (perf_counter() - started)

    return epoch


# Optimizers as the tutorial makes them.
TUTORIAL_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.001),
}


@contextmanager
def _apart(prepare: Callable[..., Callable[..., float]], *given: Any) -> Iterator[Callable[..., float]]:
    """What `prepare(*given)` returns, called in a process of its own, which has none of this one's settings."""
    start = partial(_prepare, torch.get_num_threads(), prepare, given)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start) as process:
        yield lambda *arguments: process.submit(_measure, *arguments).result()


_prepared: list[Callable[..., float]] = []  # in that process


def _prepare(threads: int, prepare: Callable[..., Callable[..., float]], given: tuple) -> None:
    torch.set_num_threads(threads)
    _prepared.append(prepare(*given))


def _measure(*arguments: Any) -> float:
    return _prepared[0](*arguments)


def bench_input(device: torch.device) -> list[Comparison]:
    """Input at 224 pixels with flip, resize and rotation, alone and in a training epoch."""
    given = {**RANDOM, "train_limit": "1000", "test_limit": "100", "offline": "stand_in"}
    parameters = load_experiment("EXP017", overrides=given)
    dataset = load_dataset(parameters, device)
    count, generator = len(dataset.train), torch.Generator(device).manual_seed(0)
    turn = torch.zeros(64, dtype=torch.int64, device=device)
    loader = DataLoader(PerImage(dataset, AT_224), batch_size=64, num_workers=2)

    def per_image() -> float:
        started = perf_counter()
        for inputs, _ in loader:
            inputs.to(device)
        return count / (perf_counter() - started)

    def ours() -> float:
        started = perf_counter()
        for images in dataset.train.images.split(64):
            changed = augment(images, parameters.augment, generator, turn[: len(images)])
            inputs = to_input(changed, 224, parameters.normalize)
        inputs.sum().item()  # a GPU computes while Python goes on
        return count / (perf_counter() - started)

    alone = interleaved(
        "Input at 224 px", "images/s", {"per-image pipeline, 2 workers": per_image, "ours": ours}, over="ours"
    )
    epoch = _training("ResNet-18, 224 px", parameters, 128, device, AT_224, repeats=3)
    step, preparation = epoch.sides[-1], alone.sides[-1]
    epoch.ratios["preparing the input / the bare step, in time"] = step.median / preparation.median
    return [alone, epoch]


# What torchvision has for each of our augmentations, for one image, and for the mixes, which it applies to a batch.
TORCHVISIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "horizontal_flip": v2.RandomHorizontalFlip(),
    "rotation": v2.RandomRotation(rotation.DEGREES, interpolation=v2.InterpolationMode.BILINEAR),
    "crop": v2.RandomCrop(32, padding=4),
    "alternating_flip": v2.RandomHorizontalFlip(),
    "shift": v2.RandomCrop(32, padding=2, padding_mode="reflect"),
    "cutout": v2.RandomErasing(1.0, (0.25, 0.25), (1.0, 1.0)),
    "trivial_augment": v2.TrivialAugmentWide(),
}
MIXED = {"mixup": v2.MixUp(num_classes=10), "cutmix": v2.CutMix(num_classes=10)}


def bench_augmentation(device: torch.device, count: int = 2048) -> list[Comparison]:
    """Each augmentation of images of 32 pixels, in batches as a training prepares them, against torchvision's."""
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, device=device, generator=generator)
    labels = torch.randint(10, (count,), device=device, generator=generator)
    turn = torch.zeros(count, dtype=torch.int64, device=device)

    def speed(change: Callable[[], torch.Tensor]) -> float:
        started = perf_counter()
        change().sum().item()  # a GPU computes while Python goes on
        return count / (perf_counter() - started)

    found = []
    for name, theirs in TORCHVISIONS.items():
        one_by_one = partial(lambda theirs: torch.stack([theirs(image) for image in images]), theirs)
        ours = partial(lambda name: augment(images, [name], generator, turn), name)
        sides = {"torchvision, image by image": partial(speed, one_by_one), "ours": partial(speed, ours)}
        found.append(interleaved(f"Augmentation: {name}", "images/s", sides, over="ours"))
    for name, theirs in MIXED.items():
        batch = partial(lambda theirs: theirs(images.float(), labels)[0], theirs)
        ours = partial(lambda name: mix(images, labels, 10, name, generator)[0], name)
        sides = {"torchvision, one share a batch": partial(speed, batch), "ours": partial(speed, ours)}
        found.append(interleaved(f"Mix: {name}", "images/s", sides, over="ours"))
    return found


def bench_frozen(device: torch.device) -> list[Comparison]:
    """Twenty epochs of frozen transfer: through the whole network each epoch, and its frozen part computed once."""
    given = {"train_limit": "320", "test_limit": "200", "offline": "stand_in", "epochs": "20"}
    found = []
    for title, trainable in (("EXP014, last two layers learn", "last_two_layers"), ("EXP014, head learns", "head")):
        parameters = load_experiment("EXP014", overrides={**given, "trainable": trainable})
        parameters = parameters.model_copy(update={"weights": None})  # frozen all the same
        dataset = load_dataset(parameters, device)
        accuracies: dict[str, float] = {}

        def seconds(what: str, once: bool, parameters=parameters, dataset=dataset, accuracies=accuracies) -> float:
            torch.manual_seed(parameters.seed)
            model = build_model(parameters)[0].to(device)
            started = perf_counter()
            with redirect_stdout(None):
                evaluation = train(model, dataset, parameters, frozen_once=once).validation
            accuracies[what] = evaluation.accuracy
            return perf_counter() - started

        sides = {
            "whole network each epoch": partial(seconds, "whole network", False),
            "ours": partial(seconds, "ours", True),
        }
        comparison = interleaved(f"Frozen transfer, 20 epochs, {title}", "s", sides)
        comparison.ratios["ours: times as fast"] = comparison.sides[0].over(comparison.sides[1])
        comparison.note = ", ".join(f"{what}: {accuracy:.1%}" for what, accuracy in accuracies.items())
        found.append(comparison)
    return found


def bench_around(device: torch.device) -> list[Comparison]:
    """What a run costs beyond training, and what the commands cost that train nothing."""
    runs = 6
    pairs = "train_limit=640 test_limit=100 epochs=1 offline=stand_in"
    per_run, hot, short = (Measurement(w, "s") for w in ("a run beyond training", "hot report, 6 runs", "--help"))
    listed = Measurement("list", "s")
    for _ in range(3):
        with tempfile.TemporaryDirectory(prefix="cifar-report-bench-") as folder:
            words = ["EXP003", "--profile", "quick", "--output", folder, "--jobs", "1", "--set", pairs, "--seeds"]
            first = _command("run", *words, "0")  # pays for what all runs share: imports, the plan
            more = _command("run", *words, ",".join(map(str, range(1, runs))))
            records = [read_record(Path(folder) / "runs" / "exp003" / f"seed-{seed}") for seed in range(runs)]
            trained = [record.seconds.train for record in records if record]
            per_run.values.append((more - first - sum(trained[1:]) + trained[0]) / (runs - 2))
            reported = [*words, ",".join(map(str, range(runs)))]
            _command("report", *reported)
            hot.values.append(_command("report", *reported))
        short.values.append(_command("--help"))
        listed.values.append(_command("list"))
    return [Comparison("Around the training", [per_run, hot, short, listed])]


def bench_jobs(device: torch.device) -> list[Comparison]:
    """Short runs on the CPU: one at a time on one core, one at a time on all cores, and a run a core (at most 8)."""
    jobs = min(cores(), 8)
    if jobs == 1:
        return []
    pairs = "train_limit=5000 test_limit=500 epochs=2 offline=stand_in device=cpu"
    seeds = ",".join(map(str, range(2 * jobs)))

    def seconds(at_once: int, on: int) -> float:
        with tempfile.TemporaryDirectory(prefix="cifar-report-bench-") as folder:
            words = ["run", "EXP003", "--profile", "quick", "--output", folder, "--set", pairs, "--seeds", seeds]
            # A machine's GPUs, though not used, would limit the jobs.
            return _command(*words, "--jobs", str(at_once), "--runs-per-gpu", str(at_once), on_cores=on)

    together = f"{jobs} jobs on {jobs} cores"
    sides = {together: partial(seconds, jobs, jobs), f"1 job on {jobs} cores": partial(seconds, 1, jobs)}
    if hasattr(os, "sched_setaffinity"):  # elsewhere a process cannot be kept to some cores
        sides["1 job on 1 core"] = partial(seconds, 1, 1)
    comparison = interleaved(f"{2 * jobs} short runs of LeNet on the CPU", "s", sides, repeats=3)
    ours, *others = comparison.sides
    comparison.ratios = {f"{together}: times as fast as {other.what}": other.over(ours) for other in others}
    return [comparison]


def bench_memory(device: torch.device) -> list[Comparison]:
    """Peak memory of a run and of four at once, pages they share counted once; the command itself included."""
    sides = []
    for jobs in (1, 4):
        with tempfile.TemporaryDirectory(prefix="cifar-report-bench-") as folder:
            pairs = "train_limit=20000 test_limit=1000 epochs=2 offline=stand_in"
            words = ["run", "EXP003", "--profile", "quick", "--output", folder, "--set", pairs]
            words += ["--seeds", ",".join(map(str, range(jobs))), "--jobs", str(jobs)]
            with _peak_memory() as peak:
                _command(*words)
        sides.append(Measurement(f"{jobs} run{'s' if jobs > 1 else ''} at once", "MB", [peak[0] / 2**20]))
    return [Comparison("Peak memory", sides)]


PARTS: dict[str, Callable[[torch.device], list[Comparison]]] = {
    "training": bench_training,
    "input": bench_input,
    "augmentation": bench_augmentation,
    "frozen": bench_frozen,
    "around": bench_around,
    "jobs": bench_jobs,
    "memory": bench_memory,
}


def _command(*words: str, on_cores: int | None = None) -> float:
    """Seconds that a command of cifar-report takes, on so many cores if that is said."""
    with _cores(on_cores):
        started = perf_counter()
        subprocess.run([sys.executable, "-m", "cifar_report", *words], check=True, stdout=subprocess.DEVNULL)
        return perf_counter() - started


@contextmanager
def _cores(count: int | None) -> Iterator[None]:
    """Keep this thread, and the processes it starts, to so many cores."""
    if count is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usual)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """The most memory that this process's children held at once, in bytes: their proportional set sizes."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            total = 0.0
            for process in psutil.Process().children(recursive=True):
                try:
                    facts = process.memory_full_info()
                except psutil.Error:
                    continue
                total += getattr(facts, "pss", None) or facts.uss
            peak[0] = max(peak[0], total)
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _print(comparisons: list[Comparison]) -> None:
    table = Table("", "median", "spread", "ratio", box=None, header_style="bold", pad_edge=False)
    for comparison in comparisons:
        table.add_row(f"[bold]{comparison.title}[/]" + (f"  ({comparison.note})" if comparison.note else ""))
        for side in comparison.sides:
            spread = f"{min(side.values):,.4g} to {max(side.values):,.4g}" if len(side.values) > 1 else "n = 1"
            table.add_row(f"  {side.what}", f"{side.median:,.4g} {side.unit}", spread)
        for what, ratio in comparison.ratios.items():
            table.add_row(f"  {what}", "", "", f"{ratio:.2f}")
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)


def _plot(comparisons: list[Comparison]) -> str:
    """Bars of every comparison, each side against the fastest or largest of its comparison."""
    rows: list[tuple[str, float, str, Any]] = []
    for comparison in comparisons:
        most = max(side.median for side in comparison.sides)
        for index, side in enumerate(comparison.sides):
            label = f"{comparison.title}: {side.what}"
            rows.append((label, side.median / most, f"{side.median:,.4g} {side.unit}", COLOURS[index % len(COLOURS)]))
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 0.6 + 0.26 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh([row[0] for row in rows], [row[1] for row in rows], color=[row[3] for row in rows])
        for position, row in enumerate(rows):
            axes.text(row[1] + 0.01, position, row[2], va="center", fontsize=8)
        axes.set(xlim=(0, 1.2), xlabel="relative to the largest of the comparison")
        axes.invert_yaxis()
        return render(figure, "Benchmarks").svg


def main() -> None:
    """Run the parts named on the command line."""
    parser = argparse.ArgumentParser(description="Measure speed and memory side by side with what people use today.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; none: all, 15 min")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"), help="default: outputs/bench")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part '{unknown.pop()}'; there are {', '.join(PARTS)}")
    run_bench(options.parts, output=options.output)


if __name__ == "__main__":
    main()
