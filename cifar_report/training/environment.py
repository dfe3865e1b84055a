"""What a run runs on: software, hardware, the commit of the library."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
import torchvision

from cifar_report.experiments.errors import RequestError
from cifar_report.records.record import EnvironmentRecord
from cifar_report.training.precision import choose_device, require_supported


def describe_environment(device: torch.device) -> EnvironmentRecord:
    """Describe the software and hardware of this process."""
    commit, dirty = git_state()
    return EnvironmentRecord(
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        platform=platform.platform(),
        device=str(device),
        device_name=_device_name(device),
        threads=torch.get_num_threads(),
        git_commit=commit,
        git_dirty=dirty,
    )


def find_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto`: an NVIDIA GPU where there is one, else the CPU.

    An Apple GPU has to be asked for. PyTorch's backward pass of BatchNorm is wrong there for images in the order
    `channels_last` (issue 175189), its convolutions for weights that are a part of others (192212): we have both.

    Raises:
        RequestError: this machine lacks the device, or PyTorch does not reach it or was not built for it.
    """
    device = torch.device("cpu") if name == "auto" and not torch.cuda.is_available() else choose_device(name)
    if name == "auto" and re.match(r"\d|GPU-|MIG-", os.environ.get("CUDA_VISIBLE_DEVICES", "")):
        require_reached()
    there = {"cuda": torch.cuda.device_count(), "mps": torch.backends.mps.is_available(), "cpu": 1}[device.type]
    if (device.index or 0) >= there:
        raise RequestError(f"device={name} is set, but this machine lacks it; set device=auto")
    require_supported(device)
    return device


def require_reached() -> None:
    """Refuse to go on where PyTorch does not reach the machine's GPU, instead of training on the CPU."""
    if not torch.cuda.is_available():
        raise RequestError(
            f"there is a GPU, but PyTorch {torch.__version__} does not reach it: install a build of PyTorch for its "
            "driver, from pytorch.org, or set device=cpu"
        )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if sys.platform == "darwin":  # where each processor is called "arm"
        with suppress(OSError, subprocess.SubprocessError):
            return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
    linux = Path("/proc/cpuinfo")
    found = re.search(r"(?m)^model name\s*: (.+)$", linux.read_text()) if linux.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the clone that the library runs from, and whether it has changes; `None` for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
