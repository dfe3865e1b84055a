"""From uint8 images to the model's input: random changes, size, normalization, a batch at a time.

Each image of a batch draws its own random numbers; torchvision's transforms would draw one set a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torchvision.transforms.v2.functional import resize

ROTATION_DEGREES = 10.0  # the original does not state its angle; 10 degrees either way is usual for photographs
CROP_PADDING = 4  # black pixels around a 32-pixel image before a random crop (He et al. 2015, section 4.2)

# Channel means and standard deviations of pixels in [0, 1]. The ImageNet figures are torchvision's; the CIFAR-10
# figures are those of its 50,000 training images, under test against the data.
STATISTICS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


def augment(images: torch.Tensor, names: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """Apply the named random changes in order. `images`: uint8 (B, 3, H, W), returned likewise."""
    for name in names:
        images = AUGMENTATIONS[name](images, generator)
    return images


def horizontal_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror each image with probability 0.5."""
    flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def rotation(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn each image about its centre by an angle uniform in ±`ROTATION_DEGREES`; uncovered corners are black.

    Done at the images' own size, before they are enlarged, with bilinear sampling.
    """
    angle = torch.rand(len(images), generator=generator, device=images.device)
    angle = (angle * 2 - 1) * (ROTATION_DEGREES * torch.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)  # (B, H, W, 2)
    turned = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.round_().to(torch.uint8)


def crop(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift each image by up to `CROP_PADDING` pixels a direction; uncovered edges are black."""
    count, _, height, width = images.shape
    padded = F.pad(images, [CROP_PADDING] * 4)
    offset = torch.randint(0, 2 * CROP_PADDING + 1, (2, count), generator=generator, device=images.device)
    rows = offset[0][:, None] + torch.arange(height, device=images.device)  # (B, H)
    columns = offset[1][:, None] + torch.arange(width, device=images.device)  # (B, W)
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


AUGMENTATIONS = {"horizontal_flip": horizontal_flip, "rotation": rotation, "crop": crop}


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
