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

CLASSES = 10


def build_model(parameters: Experiment) -> tuple[nn.Module, WeightsRecord | None, str | None]:
    """Build the network that `parameters` describe, in channels_last memory format, on the CPU.

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
    if hasattr(network, "HEAD"):  # built with the 1,000 classes of ImageNet, so that its weights fit
        replace_head(model, network.HEAD)
    initialize(model, parameters.init, parameters.init_layers)
    # Frozen layers with random weights would be useless: without pretrained weights all layers are trained.
    freeze(model, parameters.model, parameters.trainable if warning is None else "all")
    return model.to(memory_format=torch.channels_last), weights, warning


def replace_head(model: nn.Module, name: str) -> None:
    """Put a new linear layer with ten classes in the place of the layer `name`."""
    parent, _, child = name.rpartition(".")
    module = model.get_submodule(parent)
    setattr(module, child, nn.Linear(model.get_submodule(name).in_features, CLASSES))  # type: ignore[arg-type]
