"""Training images mixed in pairs, and their labels with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Mixed = tuple[torch.Tensor, torch.Tensor]  # images; of each image the share that is its own


def mixup(images: torch.Tensor, partner: torch.Tensor, generator: torch.Generator) -> Mixed:
    """Blend each image with its partner, by a share uniform in [0, 1] (Zhang et al. 2018, alpha = 1)."""
    share = torch.rand(len(images), generator=generator, device=images.device)
    blended = torch.lerp(images[partner].float(), images.float(), share[:, None, None, None])
    return blended.round_().to(torch.uint8), share


def cutmix(images: torch.Tensor, partner: torch.Tensor, generator: torch.Generator) -> Mixed:
    """Paste a rectangle of its partner into each image, of an area uniform in [0, 1] (Yun et al. 2019, alpha = 1).

    What lies outside the image is cut off, and the share is that of the pixels that are left.
    """
    count, _, height, width = images.shape
    draw = torch.rand(3, count, generator=generator, device=images.device)
    pasted = rectangle(draw[1:], draw[0].sqrt()[:, None], height, width)
    share = 1 - pasted.float().mean((1, 2, 3))
    return torch.where(pasted, images[partner], images), share


def rectangle(centre: torch.Tensor, side: torch.Tensor | float, height: int, width: int) -> torch.Tensor:
    """Which pixels lie in a rectangle of each image, bool (B, 1, height, width).

    `centre`: float (2, B) in [0, 1) of both lengths; `side`: of both lengths, a number or (B, 1).
    """

    def inside(centre: torch.Tensor, length: int) -> torch.Tensor:
        middle, half = (centre[:, None] * length).floor(), torch.as_tensor(side * length / 2).floor()
        place = torch.arange(length, device=centre.device)
        return (place >= middle - half) & (place < middle + half)

    return inside(centre[0], height)[:, None, :, None] & inside(centre[1], width)[:, None, None, :]


MIXES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Generator], Mixed]] = {"mixup": mixup, "cutmix": cutmix}


def mix(
    images: torch.Tensor, labels: torch.Tensor, classes: int, name: str, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix images, uint8 (B, 3, H, W), with others that are prepared together (in training: mostly of other batches).

    The labels, int64 (B,), become each class's share of the image, float (B, classes).
    """
    if name == "none":
        return images, labels
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    mixed, share = MIXES[name](images, partner, generator)
    own, other = (F.one_hot(which, classes).float() for which in (labels, labels[partner]))
    return mixed, torch.lerp(other, own, share[:, None])
