"""One change of a random kind and strength (Müller and Hutter 2021, the wide space)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torchvision.transforms.v2 import functional as tv

STRENGTHS = 31  # equal steps from none to the most
Change = Callable[[torch.Tensor, float], torch.Tensor]  # of images, uint8 (B, 3, H, W), by a share in [-1, 1]


def _affine(images: torch.Tensor, share: float, kind: str, axis: int) -> torch.Tensor:
    """Shear by up to 0.99 about the upper left corner, or shift by up to 32 pixels, along an axis; edges are black."""
    amount = [0.0, 0.0]
    amount[axis] = math.degrees(math.atan(0.99 * share)) if kind == "shear" else int(32 * share)
    still = {"translate": [0, 0], "shear": [0.0, 0.0], "center": [0, 0] if kind == "shear" else None}
    return tv.affine(images, angle=0.0, scale=1.0, **still | {kind: amount})


def _posterize(images: torch.Tensor, share: float) -> torch.Tensor:
    return tv.posterize(images, bits=int(8 - torch.tensor(6 * share).round()))


# Each change, and whether its share may be negative. Where it is the strength of a photographic change, 0 is none.
CHANGES: dict[str, tuple[Change, bool]] = {
    "identity": (lambda images, share: images, False),
    "shear_x": (partial(_affine, kind="shear", axis=0), True),
    "shear_y": (partial(_affine, kind="shear", axis=1), True),
    "translate_x": (partial(_affine, kind="translate", axis=0), True),
    "translate_y": (partial(_affine, kind="translate", axis=1), True),
    "rotate": (lambda images, share: tv.rotate(images, angle=135 * share), True),
    "brightness": (lambda images, share: tv.adjust_brightness(images, 1 + 0.99 * share), True),
    "color": (lambda images, share: tv.adjust_saturation(images, 1 + 0.99 * share), True),
    "contrast": (lambda images, share: tv.adjust_contrast(images, 1 + 0.99 * share), True),
    "sharpness": (lambda images, share: tv.adjust_sharpness(images, 1 + 0.99 * share), True),
    "posterize": (_posterize, False),
    "solarize": (lambda images, share: tv.solarize(images, threshold=255 * (1 - share)), False),
    "autocontrast": (lambda images, share: tv.autocontrast(images), False),
    "equalize": (lambda images, share: tv.equalize(images), False),
}


def apply(images: torch.Tensor, generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Change each image of a batch, uint8 (B, 3, H, W), in one way; those that drew the same are changed together."""
    kinds = torch.randint(len(CHANGES), (len(images),), generator=generator, device=images.device)
    steps = torch.randint(STRENGTHS, (len(images),), generator=generator, device=images.device)
    signs = torch.randint(2, (len(images),), generator=generator, device=images.device) * 2 - 1
    changed = images.clone()
    for kind, (change, signed) in enumerate(CHANGES.values()):
        strengths = steps * signs if signed else steps
        for strength in strengths[kinds == kind].unique().tolist():
            which = (kinds == kind) & (strengths == strength)
            changed[which] = change(images[which], strength / (STRENGTHS - 1))
    return changed
