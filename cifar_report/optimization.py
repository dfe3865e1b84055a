"""Optimizers and learning rate schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.optim import SGD, Adam, Adamax, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from cifar_report.experiment import Experiment

Weights = list[torch.nn.Parameter]

# Of the weights that learn and the parameters; what those do not name is PyTorch's default.
OPTIMIZERS: dict[str, Callable[[Weights, Experiment], Optimizer]] = {
    "sgd": lambda weights, e: SGD(
        weights, lr=e.lr, momentum=e.momentum, nesterov=e.nesterov, weight_decay=e.weight_decay, fused=True
    ),
    "rmsprop": lambda weights, e: RMSprop(weights, lr=e.lr, momentum=e.momentum, weight_decay=e.weight_decay),
    "adam": lambda weights, e: Adam(weights, lr=e.lr, weight_decay=e.weight_decay, fused=True),
    "adamax": lambda weights, e: Adamax(weights, lr=e.lr, weight_decay=e.weight_decay),
}
# Of the optimizer, the parameters and the number of training steps.
SCHEDULES: dict[str, Callable[[Optimizer, Experiment, int], LRScheduler]] = {
    "constant": lambda optimizer, e, steps: LambdaLR(optimizer, lambda step: 1.0),
    # Loshchilov and Hutter 2017, eq. 5, without restarts
    "cosine": lambda optimizer, e, steps: CosineAnnealingLR(optimizer, T_max=steps),
    # Smith and Topin 2018; momentum is left alone
    "one_cycle": lambda optimizer, e, steps: OneCycleLR(
        optimizer, max_lr=e.lr, total_steps=steps, cycle_momentum=False
    ),
}


def build_optimizer(weights: Iterable[torch.nn.Parameter], parameters: Experiment) -> Optimizer:
    """Build the optimizer for the weights that learn."""
    return OPTIMIZERS[parameters.optimizer]([weight for weight in weights if weight.requires_grad], parameters)


def build_schedule(optimizer: Optimizer, parameters: Experiment, steps_per_epoch: int) -> LRScheduler:
    """Build the schedule, to be advanced once after every training step."""
    return SCHEDULES[parameters.schedule](optimizer, parameters, parameters.epochs * steps_per_epoch)
