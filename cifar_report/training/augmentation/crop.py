"""Shift images."""

from __future__ import annotations

import torch
import torch.nn.functional as F

PADDING = 4  # black pixels around a 32-pixel image before a random crop (He et al. 2016, section 4.2)


def apply(images: torch.Tensor, generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Shift each image of a batch, uint8 (B, 3, H, W), by up to `PADDING` pixels; uncovered edges are black."""
    count, _, height, width = images.shape
    padded = F.pad(images, [PADDING] * 4)
    offset = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator, device=images.device)
    rows = offset[0][:, None] + torch.arange(height, device=images.device)  # (B, H)
    columns = offset[1][:, None] + torch.arange(width, device=images.device)  # (B, W)
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
