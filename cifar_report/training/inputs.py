"""From uint8 images to the model's input: random changes, size, normalization, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torchvision.transforms.v2.functional import resize

from cifar_report.training.choices import chosen

# Channel means and standard deviations of pixels in [0, 1]. The ImageNet figures are torchvision's; the CIFAR-10
# figures are those of its 50,000 training images, under test against the data.
STATISTICS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


def augment(images: torch.Tensor, names: Sequence[str], generator: torch.Generator, turn: torch.Tensor) -> torch.Tensor:
    """Apply the named random changes in order. `images`: uint8 (B, 3, H, W), returned likewise.

    `turn`: how often each image was shown, counted from a random number; int64 (B,).
    """
    for name in names:
        images = chosen("augment", name).apply(images, generator, turn)
    return images


def to_input(images: torch.Tensor, image_size: int, normalize: str) -> torch.Tensor:
    """Resize bilinearly to `image_size` and normalize: uint8 (B, 3, H, W) to float32 (B, 3, S, S), channels_last.

    What is floating point already is a model's input and returned as it is.
    """
    if images.is_floating_point():
        return images
    if images.shape[-1] != image_size:  # bytes in channels_last are resized seven times as fast
        images = resize(images.contiguous(memory_format=torch.channels_last), [image_size, image_size])
    inputs = images.float().contiguous(memory_format=torch.channels_last)
    mean, std = _line_statistics(normalize, image_size, images.device)
    # Whole lines at a time: three numbers against every pixel would take five times as long.
    inputs.permute(0, 2, 3, 1).view(-1, 3 * image_size).sub_(mean).div_(std)
    return inputs


@cache
def _line_statistics(normalize: str, image_size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every value of a line in channels_last, of pixels up to 255: (S * 3) each."""
    mean, std = (torch.tensor(values).repeat(image_size) * 255 for values in STATISTICS[normalize])
    return mean.to(device), std.to(device)
