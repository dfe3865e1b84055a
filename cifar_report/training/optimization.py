"""The optimizer and the learning rate schedule of a training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cifar_report.experiments.schema import Experiment
from cifar_report.training.choices import chosen


def build_optimizer(weights: Iterable[torch.nn.Parameter], parameters: Experiment) -> Optimizer:
    """Build the optimizer for the weights that learn."""
    learning = [weight for weight in weights if weight.requires_grad]
    return chosen("optimizer", parameters.optimizer).build(learning, parameters)


def build_schedule(optimizer: Optimizer, parameters: Experiment, steps_per_epoch: int) -> LRScheduler:
    """Build the schedule, to be advanced once after every training step."""
    return chosen("schedule", parameters.schedule).build(optimizer, parameters, parameters.epochs * steps_per_epoch)
