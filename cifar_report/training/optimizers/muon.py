"""Muon for convolutions (Jordan 2024, airbench94_muon): a step is as large in every direction of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from cifar_report.experiments.schema import Experiment

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # singular values of (0, 1] come near 1 in few iterations
ITERATIONS = 3
# What is no convolution learns by SGD, at these rates per image of the batch. They are those of airbench94_muon (Jordan
# 2024), whose head has 0.67 with logits / 256: with logits / 9 that is 0.67 * (9 / 256)^2. There the whitening layer's
# bias stops learning after three epochs, and here it does not.
HEAD_LR, BIAS_LR, SGD_MOMENTUM = 0.00083, 0.053, 0.85


def build(weights: list[Parameter], parameters: Experiment) -> Muon:
    """The optimizer of these weights; `lr` and `momentum` are those of convolutions. `weight_decay` is that
    of all others, divided by their starting rate.
    """
    e = parameters
    groups: list[dict[str, Any]] = [{"params": [w for w in weights if w.ndim == 4], "lr": e.lr, "momentum": e.momentum}]
    for dimensions, rate in ((2, HEAD_LR), (1, BIAS_LR)):
        lr = rate * e.batch_size
        chosen = [w for w in weights if w.ndim == dimensions]
        groups.append({"params": chosen, "lr": lr, "momentum": SGD_MOMENTUM, "weight_decay": e.weight_decay / lr})
    return Muon([group for group in groups if group["params"]])


def orthogonal(gradient: torch.Tensor) -> torch.Tensor:
    """The gradient (O, I, K, K), as a matrix (O, I K K), with its singular values brought near 1 (Newton-Schulz)."""
    a, b, c = NEWTON_SCHULZ
    x = gradient.flatten(1)
    tall = x.shape[0] > x.shape[1]
    x = (x.T if tall else x).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).reshape(gradient.shape).to(gradient.dtype)


class Muon(Optimizer):
    """Nesterov momentum; a convolution takes the orthogonal matrix nearest to it, and its weights keep one length."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if not (state := self.state[weight]):
                    state["momentum"] = torch.zeros_like(weight)
                average = state["momentum"]
                gradient = weight.grad.add(weight, alpha=group["weight_decay"])
                average.mul_(group["momentum"]).add_(gradient)
                gradient = gradient.add(average, alpha=group["momentum"])
                if weight.ndim == 4:
                    weight.mul_(len(weight) ** 0.5 / weight.norm())
                    gradient = orthogonal(gradient)
                weight.sub_(gradient, alpha=group["lr"])
