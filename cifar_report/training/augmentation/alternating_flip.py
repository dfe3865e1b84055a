"""Mirror images by turns."""

from __future__ import annotations

import torch


def apply(images: torch.Tensor, generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Mirror each image of a batch, uint8 (B, 3, H, W), in every second epoch; which comes first is random.

    So two epochs show both sides of every image, where a random flip shows half of them the same side twice (Jordan
    2024, section 3.6).
    """
    return torch.where((turn % 2 == 1)[:, None, None, None], images.flip(3), images)
