"""Cover a part of each image."""

from __future__ import annotations

import torch

from cifar_report.training.mixing import rectangle

SIDE = 0.5  # of the image's: 16 of 32 pixels (DeVries and Taylor 2017, for CIFAR-10)


def apply(images: torch.Tensor, generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Cover a square of each image of a batch, uint8 (B, 3, H, W), with grey; its centre is anywhere in the image."""
    count, _, height, width = images.shape
    centre = torch.rand(2, count, generator=generator, device=images.device)
    return images.masked_fill(rectangle(centre, SIDE, height, width), 128)
