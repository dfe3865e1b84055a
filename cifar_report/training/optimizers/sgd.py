"""Stochastic gradient descent with momentum."""

from __future__ import annotations

import torch
from torch.nn import Parameter
from torch.optim import SGD

from cifar_report.experiments.schema import Experiment


def build(weights: list[Parameter], parameters: Experiment) -> SGD:
    """The optimizer of these weights."""
    e = parameters
    sgd = SGD(weights, lr=e.lr, momentum=e.momentum, nesterov=e.nesterov, weight_decay=e.weight_decay, fused=True)
    if e.momentum:  # made here: a first step that float16 skips would leave what fused SGD makes uninitialized
        for weight in weights:
            sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return sgd
