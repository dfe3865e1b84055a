"""What a network costs: parameters and floating point operations."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from cifar_report.experiments.schema import Experiment
from cifar_report.records.record import ModelRecord
from cifar_report.training.frozen import split_frozen


def model_record(name: str, model: nn.Module) -> ModelRecord:
    """Count parameters and trainable parameters."""
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return ModelRecord(name=name, parameters=count_parameters(model), trainable_parameters=learning)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def forward_flops(model: nn.Module, image_size: int) -> int:
    """Floating point operations of one image's forward pass, two for each multiply-add, as torch counts them."""
    with torch.no_grad(), _counter() as counter:
        _on_meta(model).eval()(torch.zeros(1, 3, image_size, image_size, device="meta"))
    return counter.get_total_flops()


def training_pflop(model: nn.Module, parameters: Experiment, *, images: int, frozen_once: bool) -> float:
    """10^15 floating point operations of a whole training: forward and backward, of every image in every epoch.

    A frozen part counts once if it is computed once (`frozen_once`). Validation, augmentation and the optimizer's
    update are left out. `model` is neither run nor changed; `images` are those of one epoch.
    """
    model, size = _on_meta(model).train(), parameters.image_size
    inputs, once = torch.zeros(2, 3, size, size, device="meta"), 0
    frozen, rest = split_frozen(model, parameters.model) if frozen_once else (None, model)
    if frozen is not None:
        with torch.no_grad(), _counter() as counter:
            inputs = frozen.eval()(inputs)
        once = counter.get_total_flops()
    with _counter() as counter:
        F.cross_entropy(rest(inputs), torch.zeros(2, dtype=torch.int64, device="meta")).backward()
    return (once + counter.get_total_flops() * parameters.epochs) / 2 * images / 1e15


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy without values: it has shapes alone, computes nothing and draws no random number."""
    return copy.deepcopy(model).to("meta")


def _counter() -> FlopCounterMode:
    counted = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    return FlopCounterMode(display=False, custom_mapping=counted)


def _convolution_backward_flops(grad_shape: Any, x_shape: Any, w_shape: Any, *rest: Any, **more: Any) -> int:
    """The gradients of input and weight each take the forward pass's operations.

    torch 2.14 counts the weight's gradient as if there were no groups: a depthwise convolution of 96 channels 96 times.
    """
    wanted = rest[7]  # output_mask: of input, weight, bias
    return conv_flop_count(x_shape, w_shape, grad_shape) * (wanted[0] + wanted[1])
