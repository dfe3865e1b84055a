"""The learning rate stays as it is."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cifar_report.experiments.schema import Experiment


def build(optimizer: Optimizer, parameters: Experiment, steps: int) -> LambdaLR:
    """The schedule over all `steps` of a training."""
    return LambdaLR(optimizer, lambda step: 1.0)
