"""The learning rate falls to zero along half a cosine (Loshchilov and Hutter 2017, eq. 5, without restarts)."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from cifar_report.experiments.schema import Experiment


def build(optimizer: Optimizer, parameters: Experiment, steps: int) -> CosineAnnealingLR:
    """The schedule over all `steps` of a training."""
    return CosineAnnealingLR(optimizer, T_max=steps)
