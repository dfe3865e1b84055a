"""The learning rate is divided by ten after half and after three quarters of the steps (He et al. 2016)."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from cifar_report.experiments.schema import Experiment


def build(optimizer: Optimizer, parameters: Experiment, steps: int) -> MultiStepLR:
    """The schedule over all `steps` of a training."""
    return MultiStepLR(optimizer, [steps // 2, steps * 3 // 4], gamma=0.1)
