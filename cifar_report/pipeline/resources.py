"""What the machine has to give to parallel runs: cores and GPUs. Nothing here imports torch."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cores() -> int:
    """Cores this process may use: those it may run on, or fewer where a container's quota is less."""
    return min(_allowed(), _quota(CGROUP) or _allowed())


def _allowed() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no such call
        return os.cpu_count() or 1


def _quota(cgroup: Path) -> int | None:
    """Cores that a control group grants, rounded up: `cpu.max` (version 2) or the files of version 1; `None`: all."""
    with suppress(OSError, ValueError):
        granted, period = (cgroup / "cpu.max").read_text().split()
        return None if granted == "max" else math.ceil(int(granted) / int(period))
    with suppress(OSError, ValueError):
        granted, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if int(granted) <= 0 else math.ceil(int(granted) / int(period))
    return None


@cache
def gpus() -> tuple[str, ...]:
    """NVIDIA GPUs this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(listed.stdout.split()) if listed.returncode == 0 else ()


def slot_environments(jobs: int, *, cores: int, gpus: Sequence[str], runs_per_gpu: int = 1) -> list[dict[str, str]]:
    """Environment variables for each of `jobs` parallel runs, to be set before torch is imported.

    Cores are divided: threads of several runs on one core slow each other down by an order of magnitude. Fewer threads
    that the user has set stay. GPUs are dealt out in turn, each to at most `runs_per_gpu` runs; for jobs beyond those
    there is no slot.
    """
    if gpus:
        jobs = min(jobs, len(gpus) * runs_per_gpu)
    threads = max(1, cores // jobs)
    limited = jobs > 1 or cores < _allowed()  # else PyTorch knows best, of physical cores for one
    environments = []
    for slot in range(jobs):
        environment = {}
        if limited:
            environment = {name: str(min(threads, _set_by_user(name) or threads)) for name in THREAD_VARIABLES}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        environments.append(environment)
    return environments


def _set_by_user(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() and int(value) > 0 else None
