"""A network as a run starts with it: the chosen architecture, its initial weights, and what learns."""

from __future__ import annotations

import torch
from torch import nn

from cifar_report.experiments.schema import Experiment
from cifar_report.records.record import WeightsRecord
from cifar_report.training.choices import chosen
from cifar_report.training.frozen import freeze
from cifar_report.training.initialization import initialize
from cifar_report.training.weights import find_weights, load_weights


def build_model(parameters: Experiment, classes: int = 10) -> tuple[nn.Module, WeightsRecord | None, str | None]:
    """Build the network that `parameters` describe, for so many classes, in channels_last memory format, on the CPU.

    The seed decides its random values; torch's global generator is seeded here.

    Returns:
        the model; where its pretrained weights came from; a warning if it was initialized randomly instead.

    Raises:
        RequestError: weights are damaged, or not found and `offline` is `fail`.
    """
    torch.manual_seed(parameters.seed)
    network = chosen("model", parameters.model)
    model = network.build()
    weights, warning = None, None
    if parameters.weights:
        file, weights, warning = find_weights(parameters)
        if file is not None:
            load_weights(model, file)
    fit_head(model, classes)
    initialize(model, parameters.init, parameters.init_layers)
    # Frozen layers with random weights would be useless: without pretrained weights all layers are trained.
    freeze(model, parameters.model, parameters.trainable if warning is None else "all")
    return model.to(memory_format=torch.channels_last), weights, warning


def fit_head(model: nn.Module, classes: int) -> None:
    """Put a new linear layer in the place of the last one, if that is of another number of classes, as ImageNet's."""
    name, head = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    if head.out_features != classes:
        parent, _, child = name.rpartition(".")
        new = nn.Linear(head.in_features, classes, bias=head.bias is not None)
        setattr(model.get_submodule(parent), child, new)
