"""EfficientNet-B0 whose dropout and stochastic depth, which drops whole blocks, are taken out."""

from __future__ import annotations

from torch import nn
from torchvision.ops import StochasticDepth

from cifar_report.training.models import efficientnet_b0

BFLOAT16_FROM = efficientnet_b0.BFLOAT16_FROM


def build() -> nn.Module:
    """The network of `efficientnet_b0`, with the same initial weights."""
    network = efficientnet_b0.build()
    for layer in network.modules():
        if isinstance(layer, nn.Dropout | StochasticDepth):
            layer.p = 0.0
    return network
