"""The learning rate rises, then falls (Smith and Topin 2018); momentum is left alone."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from cifar_report.experiments.schema import Experiment


def build(optimizer: Optimizer, parameters: Experiment, steps: int) -> OneCycleLR:
    """The schedule over all `steps` of a training."""
    return OneCycleLR(optimizer, max_lr=parameters.lr, total_steps=steps, cycle_momentum=False)
