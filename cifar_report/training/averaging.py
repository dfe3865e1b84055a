"""Weights that are averages over the steps of a training."""

from __future__ import annotations

import torch
from torch import nn

EVERY = 5  # training steps
DECAY = 0.95  # of the average at the end of the training, a step


class Lookahead:
    """An average of a network's weights that trails behind, and to which they return every few steps.

    After Zhang et al. 2019 (Lookahead Optimizer), with an average that follows at once at first and slowly at the end
    (Jordan 2024; there from the fourth epoch on, and where an epoch ends, the average is taken as it is, while here it
    is drawn towards the weights once more). A new one is made every epoch: at its end weights and average are equal,
    so checkpoints need not keep it.
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = [value for value in network.state_dict().values() if value.is_floating_point()]
        self.average = [value.clone() for value in self.weights]
        self.steps = 0

    @torch.no_grad()
    def step(self, progress: float) -> None:
        """After a training step; `progress` is the share of the training that is done."""
        self.steps += 1
        if self.steps % EVERY == 0:
            self.join(progress)

    @torch.no_grad()
    def join(self, progress: float) -> None:
        """Draw the average towards the weights, and put it in their place."""
        torch._foreach_lerp_(self.average, self.weights, 1 - DECAY**EVERY * progress**3)
        torch._foreach_copy_(self.weights, self.average)
