"""How parallel runs share the machine: their number, threads and GPUs. Nothing here imports torch."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

STARTUP = 2.0  # seconds that a run costs beyond its training: `make bench PARTS=around`

# Floating point operations of a forward pass of one image of 32 pixels, relative to Net's.
RELATIVE_COST = {
    "net": 1,
    **dict.fromkeys(("lenet", "lenet_without_dropout", "lenet_batchnorm"), 5),
    "mobilenet_v2": 9,
    "resnet18": 46,
    "fastnet": 51,
    "fastnet_wide": 181,
    **dict.fromkeys(("efficientnet_b0", "efficientnet_b0_without_dropout"), 49),
    "vgg16": 664,
}
UNKNOWN_COST = 50  # of a model that is not in this table yet: about a ResNet-18's
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cores() -> int:
    """Cores this process may use: those it may run on, or fewer where a container's quota is less."""
    import joblib  # 0.2 s, which `--help` and `list` need not wait for

    return joblib.cpu_count()


@cache
def gpus() -> tuple[str, ...]:
    """NVIDIA GPUs this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))  # what is behind an invalid one does not count
        return tuple(itertools.takewhile(re.compile(r"\d+|(GPU|MIG)-.+").fullmatch, names))
    command = ["nvidia-smi", "--list-gpus"]  # each with its slices, if it is divided (MIG)
    try:
        listed = subprocess.check_output(command, text=True, timeout=30, stderr=subprocess.DEVNULL)
        several = (re.findall(r"UUID: ((?:GPU|MIG)-[^)]+)", gpu) for gpu in re.split(r"^(?=GPU )", listed, flags=re.M))
        return tuple(name for names in several for name in names[1:] or names)
    except (OSError, subprocess.SubprocessError):  # there is none, or no driver, or a container without the program
        return tuple(str(index) for index, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*")))


def default_jobs(gpus: Sequence[str], runs_per_gpu: int = 1) -> int:
    """Runs at a time on one machine, unless the user says otherwise: as many as its GPUs have room for, or two."""
    return len(gpus) * runs_per_gpu or min(2, cores())


def slot_environments(jobs: int, *, cores: int, gpus: Sequence[str], runs_per_gpu: int = 1) -> list[dict[str, str]]:
    """Environment variables for each of `jobs` parallel runs, to be set before torch is imported.

    Cores are divided: threads of several runs on one core slow each other down by an order of magnitude. A smaller
    number of threads that the user has set is kept. Each GPU is given to at most `runs_per_gpu` runs; further jobs get
    no slot.
    """
    if gpus:
        jobs = min(jobs, len(gpus) * runs_per_gpu)
    threads = max(1, cores // jobs)
    limited = jobs > 1 or cores < (os.cpu_count() or 1)  # else PyTorch chooses well: it counts physical cores
    shared = {name: str(min(threads, _set_by_user(name) or threads)) for name in THREAD_VARIABLES} if limited else {}
    devices = [{"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {} for slot in range(jobs)]
    return [shared | device for device in devices]


def _set_by_user(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() and int(value) > 0 else None
