"""The learning rate rises linearly over the first quarter, from a fifth of `lr`, then falls linearly to zero."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from cifar_report.experiments.schema import Experiment


def build(optimizer: Optimizer, parameters: Experiment, steps: int) -> OneCycleLR:
    """The schedule over all `steps` of a training."""
    return OneCycleLR(
        optimizer,
        max_lr=parameters.lr,
        total_steps=steps + 1,  # the last training step is the one before zero
        pct_start=0.25,
        div_factor=5,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
