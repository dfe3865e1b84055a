"""What this machine has for the experiments, whether it works, and what to do where it does not."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import torch
from jupyter_client.kernelspec import KernelSpecManager

from cifar_report import __version__
from cifar_report.data.cache import load_images
from cifar_report.data.download import OFFLINE, cache_folder
from cifar_report.data.sources import ARCHIVE_URL
from cifar_report.execution.plan import check_writable, make_plan
from cifar_report.execution.requirements import unmet_requirements
from cifar_report.execution.resources import cores, gpus
from cifar_report.execution.speed import seconds_left
from cifar_report.experiments.catalog import load_experiment
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import PRETRAINED_MODELS
from cifar_report.formatting import counted, duration
from cifar_report.report.pdf import what_is_missing
from cifar_report.training.build import build_model
from cifar_report.training.environment import git_state, require_reached
from cifar_report.training.precision import TYPES, cpu_has_bfloat16, require_supported
from cifar_report.training.weights import find_weights

ROOM = 5 * 2**30  # bytes that the runs of a whole journal with one seed take, with their checkpoints, about


@dataclass(frozen=True)
class Check:
    """One thing examined. `status` is `ok`, `missing` (runs do without, or fetch it) or `broken`."""

    name: str
    status: str
    text: str


class MissingError(RequestError):
    """Something that runs can do without, or fetch when they need it."""


def examine(output_dir: Path) -> Iterator[Check]:
    """Examine one thing after the other; each text names the remedy where there is something to do."""
    devices = torch.cuda.device_count() or len(gpus()) or 1
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", lambda: f"{platform.python_version()} on {platform.platform(terse=True)}"),
        ("this package", _package),
        ("packages it needs", _packages),
        ("PyTorch", lambda: f"{torch.__version__}, {counted(torch.get_num_threads(), 'thread')} on {cores()} cores"),
        *((f"GPU {index}", lambda index=index: _gpu(index)) for index in range(devices)),
        ("bfloat16 on the CPU", _bfloat16),
        ("images", _images),
        *((f"weights of {name}", lambda name=name: _weights(name)) for name in PRETRAINED_MODELS),
        ("network", _network),
        ("cache", lambda: _folder(cache_folder())),
        ("output", lambda: _folder(output_dir)),
        ("notebook kernel", lambda: str(KernelSpecManager().get_kernel_spec("python3").resource_dir)),
        ("PDF", _pdf),
        ("speed", lambda: _speed(output_dir)),
    ]
    for name, check in checks:
        try:
            yield Check(name, "ok", check())
        except MissingError as missing:
            yield Check(name, "missing", str(missing))
        except Exception as error:  # whatever is broken is what was looked for
            text = str(error) if isinstance(error, RequestError) else f"{type(error).__name__}: {error}"
            yield Check(name, "broken", text)


def _package() -> str:
    commit, dirty = git_state()
    place = f"commit {commit[:8]}{', with changes' if dirty else ''}" if commit else "installed"
    return f"cifar-report {__version__}, {place}"


def _packages() -> str:
    try:
        unmet = unmet_requirements()
    except PackageNotFoundError:
        raise MissingError("cifar-report is not installed, so what it needs is unknown: pip install -e .") from None
    if unmet:
        raise RequestError(" ".join(unmet))
    return "of the versions that it needs"


def _gpu(index: int) -> str:
    """A training step of ResNet-18 in each precision."""
    if not gpus():
        raise MissingError("none: runs use the CPU; in Colab, Runtime > Change runtime type offers one")
    require_reached()
    device = torch.device("cuda", index)
    require_supported(device)
    model = build_model(load_experiment("EXP011").model_copy(update={"weights": None}))[0].to(device)
    with torch.cuda.device(index):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    types = {name: dtype for name, dtype in TYPES.items() if native or name != "bfloat16"}
    for dtype in types.values():
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            loss = model(torch.randn(8, 3, 32, 32, device=device)).square().mean()
        loss.backward()
        if not torch.isfinite(loss):
            raise RequestError(f"a training step in {dtype or torch.float32} gives {loss.item()}")
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    lacks = "" if native else " (bfloat16 is not in its hardware)"
    return f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free; it trains in {', '.join(types)}{lacks}"


def _bfloat16() -> str:
    if not cpu_has_bfloat16():
        raise MissingError("not in hardware: with 224 pixels, set precision=float32, which is several times as fast")
    return "in hardware: with 224 pixels twice as fast as float32 on an EPYC, slower on a Xeon that hides its AMX"


def _images() -> str:
    try:
        images, _ = load_images("cifar10", download=False)
    except RequestError as error:
        if os.environ.get("CIFAR_REPORT_DATA"):
            raise
        raise MissingError("CIFAR-10 is not on this machine: `cifar-report fetch` downloads it") from error
    return f"CIFAR-10, {images.source}, SHA-256 {images.sha256[:16]}…"


def _weights(model: str) -> str:
    experiment = load_experiment("EXP011").model_copy(update={"model": model, "offline": "stand_in"})
    _, found, _ = find_weights(experiment, download=False)
    if found is None:
        raise MissingError("not on this machine: `cifar-report fetch` downloads them")
    return f"{found.source}, SHA-256 {found.sha256[:16]}…"


def _network() -> str:
    import requests

    if os.environ.get(OFFLINE):
        raise MissingError(f"switched off ({OFFLINE})")
    try:
        requests.head(ARCHIVE_URL, timeout=10).raise_for_status()
    except requests.RequestException as error:
        reason = f"cannot be reached ({type(error).__name__}): CIFAR_REPORT_DATA and CIFAR_REPORT_WEIGHTS name copies"
        raise MissingError(f"{ARCHIVE_URL} {reason}") from None
    return "CIFAR-10's server answers"


def _folder(folder: Path) -> str:
    free = shutil.disk_usage(check_writable(folder)).free
    if free < ROOM:
        raise RequestError(f"{folder} has {free / 2**30:.1f} GiB free; one seed of a journal takes ~{ROOM >> 30} GiB")
    return f"{folder}: writable, with locks, {free / 2**30:.0f} GiB free"


def _pdf() -> str:
    if missing := what_is_missing():
        raise MissingError(f"no PDF is made: {missing}")
    return "WeasyPrint and Pango"


def _speed(output_dir: Path) -> str:
    (run,) = make_plan(["EXP003"], profile="full", output_dir=output_dir, read_only=True)
    return f"LeNet for 20 epochs on 50,000 images (EXP003) takes about {duration(seconds_left(run))}"
