"""Cover a part of each image."""

from __future__ import annotations

import torch

SIDE = 0.5  # of the image's: 16 of 32 pixels (DeVries and Taylor 2017, table 1)


def apply(images: torch.Tensor, generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Cover a square of each image of a batch, uint8 (B, 3, H, W), with grey; its centre is anywhere in the image."""
    count, _, height, width = images.shape
    centre = torch.rand(2, count, generator=generator, device=images.device)

    def covered(centre: torch.Tensor, length: int) -> torch.Tensor:
        """Which of `length` lines are covered, bool (B, length)."""
        half = int(SIDE * length / 2)
        middle = (centre[:, None] * length).floor()
        place = torch.arange(length, device=images.device)
        return (place >= middle - half) & (place < middle + half)

    square = covered(centre[0], height)[:, None, :, None] & covered(centre[1], width)[:, None, None, :]
    return images.masked_fill(square, 128)
