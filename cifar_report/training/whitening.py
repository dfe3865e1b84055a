"""A first convolution whose outputs are uncorrelated: small patches of the training images, whitened."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cifar_report.training.inputs import to_input

IMAGES = 5000  # patches of so many images are enough for their covariance
LEAST_VARIANCE = 5e-4  # added to each component's variance: the smallest are noise


@torch.no_grad()
def whiten(layer: nn.Module, images: torch.Tensor, normalize: str) -> None:
    """Set a convolution's weights to the principal components of patches and their negatives.

    Each has a variance near 1 (below, where it is small). With both signs, ReLU and GELU lose nothing. The weights are
    frozen; the bias learns. After Page 2019 (How to Train Your ResNet, part 8).

    Args:
        layer: with twice as many outputs as a patch has values, such as 24 for 2 x 2 pixels of 3 channels.
        images: uint8 (N, 3, 32, 32), the first `IMAGES` of which are used.
        normalize: of the network's input.
    """
    assert isinstance(layer, nn.Conv2d)
    size = layer.kernel_size[0]
    inputs = to_input(images[:IMAGES], images.shape[-1], normalize)
    values = F.unfold(inputs, size).transpose(1, 2).flatten(0, 1)  # (patches, 3 * size * size)
    variances, components = torch.linalg.eigh(torch.cov(values.T).cpu())  # in columns, the smallest first
    rows = (components / (variances + LEAST_VARIANCE).sqrt()).T.flip(0).view(-1, 3, size, size)
    layer.weight.copy_(torch.cat([rows, -rows]))
    layer.weight.requires_grad_(False)
