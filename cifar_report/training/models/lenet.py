"""LeNet with dropout. The original report gives no layer sizes; these are a common choice for CIFAR-10."""

from __future__ import annotations

import torch
from torch import nn


class LeNet(nn.Module):
    """Three 3 x 3 convolutions and two linear layers with dropout, for (B, 3, 32, 32); 541,094 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * 4 * 4, 500)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 3, 32, 32)
        x = self.pool(self.conv1(x).relu())  # (B, 16, 16, 16)
        x = self.pool(self.conv2(x).relu())  # (B, 32, 8, 8)
        x = self.pool(self.conv3(x).relu())  # (B, 64, 4, 4)
        x = self.dropout(self.fc1(x.flatten(1)).relu())  # (B, 500)
        return self.fc2(x)  # (B, 10)


def build() -> LeNet:
    """The network with PyTorch's initial weights."""
    return LeNet()
