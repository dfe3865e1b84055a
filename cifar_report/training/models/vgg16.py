"""torchvision's VGG-16."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

BFLOAT16_FROM = 1  # pixels; dense convolutions, like those of ResNet-18, gain at every size
HEAD = "classifier.6"
LAST_TWO_LAYERS = ("classifier.3", "classifier.6")  # its last two linear layers, 16.8 million parameters


def build() -> nn.Module:
    """The network with its 1,000 ImageNet classes, so that ImageNet weights fit."""
    return torchvision.models.vgg16()


def stages(network: Any) -> list[nn.Module]:
    """The steps of the forward pass, in order."""
    return [*network.features, network.avgpool, nn.Flatten(), *network.classifier]
