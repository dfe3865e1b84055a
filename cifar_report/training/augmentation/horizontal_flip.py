"""Mirror images."""

from __future__ import annotations

import torch


def apply(images: torch.Tensor, generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Mirror each image of a batch, uint8 (B, 3, H, W), with probability 0.5."""
    flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)
