"""The device and the floating point type that a run computes with."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import torch

from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment
from cifar_report.training.choices import chosen

TYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The named device; `auto`: cuda where there is one, else mps, else cpu. Runs ask `environment.find_device`."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


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


def choose_precision(parameters: Experiment, device: torch.device) -> str:
    """`float32`, `bfloat16` or `float16`: what was asked for, and for `auto` what is fast, by a fixed rule.

    A CUDA GPU gets bfloat16 where it computes with it, else float16. A CPU with instructions for bfloat16 gets it from
    the image size that the network's file names (`BFLOAT16_FROM`), since depthwise convolutions lose by it at 32
    pixels, and small networks at any size. Everything else gets float32.
    """
    if parameters.precision != "auto":
        return parameters.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    least = getattr(chosen("model", parameters.model), "BFLOAT16_FROM", None)
    fast = least is not None and parameters.image_size >= least and device.type == "cpu" and cpu_has_bfloat16()
    return "bfloat16" if fast else "float32"


def amp_dtype(parameters: Experiment, device: torch.device) -> torch.dtype | None:
    """Type of mixed precision, `None` for float32."""
    return TYPES[choose_precision(parameters, device)]


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16; without AVX512-BF16 or AMX it is six times slower than float32."""
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in words or "amx_bf16" in words


def exact_float32() -> None:
    """Let GPUs compute float32 in float32: cuDNN would otherwise round convolutions' inputs to TF32."""
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
