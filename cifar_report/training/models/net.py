"""The PyTorch tutorial's network."""

from __future__ import annotations

import torch
from torch import nn


class Net(nn.Module):
    """5 x 5 convolutions and linear layers for (B, 3, 32, 32); 62,006 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 3, 32, 32)
        x = self.pool(self.conv1(x).relu())  # (B, 6, 14, 14)
        x = self.pool(self.conv2(x).relu())  # (B, 16, 5, 5)
        x = self.fc1(x.flatten(1)).relu()  # (B, 120)
        x = self.fc2(x).relu()  # (B, 84)
        return self.fc3(x)  # (B, 10)


def build() -> Net:
    """The network with PyTorch's initial weights."""
    return Net()
