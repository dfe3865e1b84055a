"""The learning rate falls linearly to zero."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR

from cifar_report.experiments.schema import Experiment


def build(optimizer: Optimizer, parameters: Experiment, steps: int) -> LinearLR:
    """The schedule over all `steps` of a training."""
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
