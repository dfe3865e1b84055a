"""LeNet with batch normalization between each convolution and its ReLU (Ioffe and Szegedy 2015)."""

from __future__ import annotations

from torch import nn

from cifar_report.training.models.lenet import LeNet


def build() -> LeNet:
    """The network with PyTorch's initial weights."""
    network = LeNet()
    for name in ("conv1", "conv2", "conv3"):
        convolution = getattr(network, name)
        setattr(network, name, nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels)))
    return network
