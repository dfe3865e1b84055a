"""The device and the floating point type that a run computes with."""

from __future__ import annotations

import torch


def choose_device(name: str) -> torch.device:
    """The named device; `auto`: cuda where there is one, else mps, else cpu."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def amp_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Type of mixed precision, `None` for float32: bfloat16, or float16 on GPUs that only emulate bfloat16."""
    if precision == "float32" or (precision == "auto" and device.type != "cuda"):
        return None
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
