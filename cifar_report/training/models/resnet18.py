"""torchvision's ResNet-18."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from cifar_report.training.cropped import crop_kernels

BFLOAT16_FROM = 1  # pixels; measured on two EPYC cores: 1.2 times as fast at 32 pixels, 2.4 times at 224
HEAD = "fc"
# ResNet-18 overfits strongly in the original's figures (training loss 0.15): a linear head on frozen features cannot,
# the last stage with the head can (8.4 million parameters). Measurements: docs/readings.md.
LAST_TWO_LAYERS = ("layer4", "fc")


def build() -> nn.Module:
    """The network with its 1,000 ImageNet classes, so that ImageNet weights fit."""
    return crop_kernels(torchvision.models.resnet18())


def stages(network: Any) -> list[nn.Module]:
    """The steps of the forward pass, in order."""
    m = network
    return [*(m.conv1, m.bn1, m.relu, m.maxpool, m.layer1, m.layer2, m.layer3, m.layer4, m.avgpool), nn.Flatten(), m.fc]
