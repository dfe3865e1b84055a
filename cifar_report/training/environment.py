"""What a run runs on: software, hardware, the commit of the library; and a GPU that PyTorch does not support."""

from __future__ import annotations

import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import torch
import torchvision

from cifar_report.experiments.errors import RequestError
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


def require_supported(device: torch.device) -> None:
    """Refuse a GPU that the installed PyTorch was not built for: `torch.cuda.is_available` does not look at that.

    Raises:
        RequestError: names the GPU, what PyTorch was built for, and the remedy.
    """
    if device.type != "cuda":
        return
    major, minor = torch.cuda.get_device_capability(device)
    built = [(kind, int(number[:-1]), int(number[-1])) for kind, number in _built_for(torch.cuda.get_arch_list())]
    binary = any(kind == "sm" and (x, True) == (major, y <= minor) for kind, x, y in built)
    if built and not binary and not any(kind == "compute" and (x, y) <= (major, minor) for kind, x, y in built):
        raise RequestError(
            f"PyTorch {torch.__version__} was not built for {torch.cuda.get_device_name(device)} (compute capability "
            f"{major}.{minor}), but for {', '.join(torch.cuda.get_arch_list())}: install another build of PyTorch, or "
            "set device=cpu"
        )


def _built_for(names: list[str]) -> list[tuple[str, str]]:
    """`sm_90a` and `compute_120` as kind and number."""
    found = (re.fullmatch(r"(sm|compute)_(\d{2,})[a-z]*", name) for name in names)
    return [(match[1], match[2]) for match in found if match]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


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
