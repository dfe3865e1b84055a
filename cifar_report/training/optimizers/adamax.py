"""Adamax (Kingma and Ba 2015, section 7.1)."""

from __future__ import annotations

from torch.nn import Parameter
from torch.optim import Adamax

from cifar_report.experiments.schema import Experiment


def build(weights: list[Parameter], parameters: Experiment) -> Adamax:
    """The optimizer of these weights."""
    e = parameters
    return Adamax(weights, lr=e.lr, weight_decay=e.weight_decay)
