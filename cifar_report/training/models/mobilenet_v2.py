"""torchvision's MobileNetV2."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from cifar_report.training.cropped import crop_kernels

BFLOAT16_FROM = 128  # pixels; measured on two EPYC cores: 0.4 times as fast at 32 pixels, 1.2 times at 224
HEAD = "classifier.1"
LAST_TWO_LAYERS = ("classifier.0", "classifier.1")  # a dropout, which has no parameters, and the head


def build() -> nn.Module:
    """The network with its 1,000 ImageNet classes, so that ImageNet weights fit."""
    return crop_kernels(torchvision.models.mobilenet_v2())


def stages(network: Any) -> list[nn.Module]:
    """The steps of the forward pass, in order."""
    return [*network.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *network.classifier]
