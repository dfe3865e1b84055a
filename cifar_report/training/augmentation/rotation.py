"""Turn images a little."""

from __future__ import annotations

import torch
import torch.nn.functional as F

DEGREES = 10.0  # the original does not state its angle; 10 degrees either way is usual for photographs


def apply(images: torch.Tensor, generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Turn each image of a batch, uint8 (B, 3, H, W), about its centre by an angle uniform in ±`DEGREES`.

    Uncovered corners are black. Done at the images' own size, before they are enlarged, with bilinear sampling.
    """
    angle = torch.rand(len(images), generator=generator, device=images.device)
    angle = (angle * 2 - 1) * (DEGREES * torch.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)  # (B, H, W, 2)
    turned = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.round_().to(torch.uint8)
