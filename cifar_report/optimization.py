"""Optimizers and learning rate schedules."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.optim import SGD, Adam, Adamax, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from cifar_report.experiment import Experiment


def build_optimizer(weights: Iterable[torch.nn.Parameter], parameters: Experiment) -> Optimizer:
    """Build the optimizer for the weights that learn; what `parameters` do not name is PyTorch's default."""
    learning = [weight for weight in weights if weight.requires_grad]
    lr, decay, momentum = parameters.lr, parameters.weight_decay, parameters.momentum
    if parameters.optimizer == "sgd":
        return SGD(learning, lr=lr, momentum=momentum, nesterov=parameters.nesterov, weight_decay=decay, fused=True)
    if parameters.optimizer == "rmsprop":
        return RMSprop(learning, lr=lr, momentum=momentum, weight_decay=decay)
    if parameters.optimizer == "adam":
        return Adam(learning, lr=lr, weight_decay=decay, fused=True)
    return Adamax(learning, lr=lr, weight_decay=decay)


def build_schedule(optimizer: Optimizer, parameters: Experiment, steps_per_epoch: int) -> LRScheduler:
    """Build the schedule, to be advanced once after every training step."""
    steps = parameters.epochs * steps_per_epoch
    if parameters.schedule == "cosine":  # Loshchilov and Hutter 2017, eq. 5, without restarts
        return CosineAnnealingLR(optimizer, T_max=steps)
    if parameters.schedule == "one_cycle":  # Smith and Topin 2018; momentum is left alone
        return OneCycleLR(optimizer, max_lr=parameters.lr, total_steps=steps, cycle_momentum=False)
    return LambdaLR(optimizer, lambda step: 1.0)
