"""Frozen layers: which they are, how BatchNorm behaves in them, and what they compute, computed once."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from cifar_report.data.dataset import Dataset, Split
from cifar_report.experiments.schema import Experiment
from cifar_report.training.choices import chosen
from cifar_report.training.evaluation import evaluation_batch
from cifar_report.training.inputs import to_input

# At most so many bytes are kept for a dataset; a fixed number, so that no run depends on a machine's memory.
MOST_BYTES = 4 * 2**30


def freeze(model: nn.Module, name: str, trainable: str) -> None:
    """Let `all` layers learn, the `head` alone, or the `last_two_layers`; the others are frozen.

    `name` is the model's, as the parameter `model` has it.
    """
    if trainable == "all":
        return
    network = chosen("model", name)
    learning = network.LAST_TWO_LAYERS if trainable == "last_two_layers" else (network.HEAD,)
    model.requires_grad_(False)
    for part in learning:
        model.get_submodule(part).requires_grad_(True)


def train_mode(model: nn.Module, frozen_batchnorm: str = "evaluate") -> None:
    """Set training mode where layers learn; frozen layers evaluate, or train too if `frozen_batchnorm` is `train`.

    Frozen BatchNorm that evaluates keeps its ImageNet statistics, so that what is frozen is a fixed function of the
    image. In training mode, as code leaves it that only sets `requires_grad = False`, it normalizes with the statistics
    of each batch and adapts the running ones, which evaluation uses.
    """
    model.train()
    for module in model.modules() if frozen_batchnorm == "evaluate" else ():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def without_frozen_part(
    model: nn.Module, dataset: Dataset, parameters: Experiment, *, amp: torch.dtype | None = None
) -> tuple[nn.Module, Dataset]:
    """Take the frozen part off the front of `model`, and put what it computes in place of the images.

    Those of training and validation, that is: the test images stay, for the whole network to be evaluated on.

    Where there is no such part, where its outputs change in every epoch (augmentation changes the images, or frozen
    BatchNorm uses each batch's statistics), or where they would take more than `MOST_BYTES`, model and dataset are
    returned as they are.

    Returns:
        the rest of the network, which shares its layers with `model`; and the dataset, its images being the rest's
        inputs: float32 (N, …), or `amp`.
    """
    frozen, rest = split_frozen(model, parameters.model)
    if frozen is None or parameters.augment or (parameters.frozen_batchnorm == "train" and _has_batchnorm(frozen)):
        return model, dataset
    one = _compute(
        frozen,
        replace(dataset.train, images=dataset.train.images[:1], labels=dataset.train.labels[:1]),
        parameters,
        amp,
    )
    splits = {id(split): split for split in (dataset.train, dataset.validation)}
    if one.images.nbytes * sum(map(len, splits.values())) > MOST_BYTES:
        return model, dataset
    computed = {key: _compute(frozen, split, parameters, amp) for key, split in splits.items()}
    return rest, replace(dataset, train=computed[id(dataset.train)], validation=computed[id(dataset.validation)])


def split_frozen(model: nn.Module, name: str) -> tuple[nn.Sequential | None, nn.Module]:
    """The longest front part of a network in which nothing learns and nothing is random, and the rest of it."""
    network = chosen("model", name)
    if not hasattr(network, "stages"):
        return None, model
    stages = network.stages(model)
    changing = (any(p.requires_grad for p in stage.parameters()) or _is_random(stage) for stage in stages)
    count = next(index for index, changes in enumerate(changing) if changes)
    if not any(True for stage in stages[:count] for _ in stage.parameters()):
        return None, model
    return nn.Sequential(*stages[:count]), nn.Sequential(*stages[count:])


def _has_batchnorm(stage: nn.Module) -> bool:
    return any(isinstance(module, nn.BatchNorm2d) for module in stage.modules())


def _is_random(stage: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) for module in stage.modules())


@torch.no_grad()
def _compute(frozen: nn.Module, split: Split, parameters: Experiment, amp: torch.dtype | None) -> Split:
    frozen.eval()  # right because `without_frozen_part` leaves alone what trains its BatchNorm
    outputs = []
    with torch.autocast(split.images.device.type, dtype=amp, enabled=amp is not None):
        for images in split.images.split(evaluation_batch(parameters.image_size)):
            outputs.append(frozen(to_input(images, parameters.image_size, parameters.normalize)))
    return replace(split, images=torch.cat(outputs))
