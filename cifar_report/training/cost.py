"""What a network costs: parameters and floating point operations."""

from __future__ import annotations

import torch
from torch import nn

from cifar_report.records.record import ModelRecord


def model_record(name: str, model: nn.Module) -> ModelRecord:
    """Count parameters and trainable parameters."""
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return ModelRecord(name=name, parameters=count_parameters(model), trainable_parameters=learning)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops(model: nn.Module, image_size: int) -> int:
    """Floating point operations of one image's forward pass, two for each multiply-add, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    mode = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, image_size, image_size, device=device))
    model.train(mode)
    return counter.get_total_flops()
