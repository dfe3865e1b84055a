"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from torch.nn import Parameter
from torch.optim import SGD

from cifar_report.experiments.schema import Experiment


def build(weights: list[Parameter], parameters: Experiment) -> SGD:
    """The optimizer of these weights."""
    e = parameters
    return SGD(weights, lr=e.lr, momentum=e.momentum, nesterov=e.nesterov, weight_decay=e.weight_decay, fused=True)
