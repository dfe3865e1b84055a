"""Adam (Kingma and Ba 2015)."""

from __future__ import annotations

from torch.nn import Parameter
from torch.optim import Adam

from cifar_report.experiments.schema import Experiment


def build(weights: list[Parameter], parameters: Experiment) -> Adam:
    """The optimizer of these weights."""
    e = parameters
    return Adam(weights, lr=e.lr, weight_decay=e.weight_decay, fused=True)
