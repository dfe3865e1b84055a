"""RMSprop (Hinton 2012)."""

from __future__ import annotations

from torch.nn import Parameter
from torch.optim import RMSprop

from cifar_report.experiments.schema import Experiment


def build(weights: list[Parameter], parameters: Experiment) -> RMSprop:
    """The optimizer of these weights."""
    e = parameters
    return RMSprop(weights, lr=e.lr, momentum=e.momentum, weight_decay=e.weight_decay)
