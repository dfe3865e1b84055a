"""Looking into a model and its data before training: what each family's notebook shows of its own."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from cifar_report.data.dataset import Dataset, Split
from cifar_report.experiments.schema import Experiment
from cifar_report.training.inputs import STATISTICS, augment, to_input


def first_step_spreads(
    model: nn.Module, dataset: Dataset, parameters: Experiment
) -> tuple[dict[str, float], dict[str, float]]:
    """Standard deviations of each layer's outputs and weight gradients on the first batch, before any training.

    Layers are the convolutions and linear layers, by name, from input to output. The model is not changed.
    """
    probe = copy.deepcopy(model).train()
    activations: dict[str, float] = {}

    def remember(name: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            activations[name] = output.detach().std().item()

        return hook

    layers = {name: m for name, m in probe.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for name, module in layers.items():
        module.register_forward_hook(remember(name))
    count = min(parameters.batch_size, len(dataset.train))
    inputs = to_input(dataset.train.images[:count], parameters.image_size, parameters.normalize)
    F.cross_entropy(probe(inputs), dataset.train.labels[:count]).backward()
    gradients = {
        name: module.weight.grad.std().item() for name, module in layers.items() if module.weight.grad is not None
    }
    return activations, gradients


def frozen_parts(model: nn.Module) -> list[tuple[str, int, int]]:
    """Top-level parts of the model with their numbers of frozen and of learning parameters."""
    rows = []
    for name, part in model.named_children():
        sizes = [(p.numel(), p.requires_grad) for p in part.parameters()]
        if sizes:
            learning = sum(size for size, learns in sizes if learns)
            rows.append((name, sum(size for size, _ in sizes) - learning, learning))
    return rows


def augmented_examples(dataset: Dataset, parameters: Experiment, *, images: int = 4, variants: int = 7) -> torch.Tensor:
    """Training images with their augmented variants: uint8 (images * (1 + variants), 3, 32, 32), original first."""
    generator = torch.Generator(dataset.train.images.device).manual_seed(parameters.seed)
    originals = dataset.train.images[:images]
    copies = [originals]
    for turn in range(variants):
        turns = torch.full((len(originals),), turn, device=originals.device)
        copies.append(augment(originals, parameters.augment, generator, turns))
    return torch.stack(copies, dim=1).flatten(0, 1)


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each colour channel over a split's pixels, scaled to [0, 1]."""
    # Histograms are exact and need no copy of 150 million values in float.
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(3):
        counts = torch.bincount(split.images[:, channel].flatten().cpu(), minlength=256).double()
        share = counts / counts.sum()
        mean = (share * values).sum()
        means.append(mean.item())
        deviations.append(((share * (values - mean) ** 2).sum()).sqrt().item())
    return tuple(means), tuple(deviations)


def normalized_statistics(split: Split, normalize: str) -> list[float]:
    """Means, then standard deviations, of the three channels of the model's input under a normalization."""
    means, deviations = channel_statistics(split)
    subtract, divide = STATISTICS[normalize]
    centred = [(mean - s) / d for mean, s, d in zip(means, subtract, divide, strict=True)]
    return centred + [deviation / d for deviation, d in zip(deviations, divide, strict=True)]
