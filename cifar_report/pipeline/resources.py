"""What the machine has to give to parallel runs: cores and GPUs. Nothing here imports torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no such call
        return os.cpu_count() or 1


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

    Cores are divided: threads of several runs on one core slow each other down by an order of magnitude. GPUs are dealt
    out in turn, each to at most `runs_per_gpu` runs; jobs beyond those slots get no GPU and none is left unused.
    """
    if gpus:
        jobs = min(jobs, len(gpus) * runs_per_gpu)
    threads = str(max(1, cores // jobs))
    environments = []
    for slot in range(jobs):
        environment = {} if jobs == 1 else dict.fromkeys(THREAD_VARIABLES, threads)
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        environments.append(environment)
    return environments
