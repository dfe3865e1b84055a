"""Shift images a little."""

from __future__ import annotations

import torch

PIXELS = 2  # each way (Jordan 2024, section 3.1)


def apply(images: torch.Tensor, generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Shift each image of a batch, uint8 (B, 3, H, W), by up to `PIXELS`; uncovered edges mirror the image."""
    count, _, height, width = images.shape
    offset = torch.randint(0, 2 * PIXELS + 1, (2, count), generator=generator, device=images.device)

    def lines(length: int, offset: torch.Tensor) -> torch.Tensor:
        """Which of `length` lines lies at each place, mirrored at the edges; int64 (B, length)."""
        place = (torch.arange(length, device=images.device) + offset[:, None] - PIXELS).abs()
        return torch.minimum(place, 2 * (length - 1) - place)

    which = torch.arange(count, device=images.device)[:, None, None]
    rows, columns = lines(height, offset[0])[:, :, None], lines(width, offset[1])[:, None, :]
    return images.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2)
