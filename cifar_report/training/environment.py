"""What a run runs on: software, hardware, the commit of the library."""

from __future__ import annotations

import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import torch
import torchvision

from cifar_report.records.record import EnvironmentRecord


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


def has_device(device: torch.device) -> bool:
    """Whether this machine has the device, and PyTorch reaches it."""
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or torch.backends.mps.is_available()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
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
