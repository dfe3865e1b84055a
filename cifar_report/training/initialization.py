"""Initial weights of convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

CONSTANT = 0.01  # equal filters stay equal: the constant is here to show that symmetry must be broken


def _partial_identity(weights: torch.Tensor) -> None:
    """Let a convolution's first outputs repeat its inputs; its other weights, and linear layers, stay (Jordan 2024)."""
    if weights.ndim == 4 and len(weights) >= weights.shape[1]:
        nn.init.dirac_(weights[: weights.shape[1]])


# Glorot and Bengio 2010, eq. 16; He et al. 2015, eq. 10, with the gain of ReLU.
INITIALIZATIONS: dict[str, Callable[[torch.Tensor], object]] = {
    "constant": partial(nn.init.constant_, val=CONSTANT),
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "kaiming_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "partial_identity": _partial_identity,
}


def initialize(model: nn.Module, name: str, layers: str = "all") -> None:
    """Set the weights of all convolutions and linear layers, and their biases to zero; `default` changes nothing.

    `layers`: `linear` leaves convolutions as they are.
    """
    if name == "default":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear) or (layers == "all" and isinstance(module, nn.Conv2d)):
            INITIALIZATIONS[name](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
