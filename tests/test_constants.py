"""Constants that define experiments, against sources that this project did not write."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models, transforms

from cifar_report.experiments.schema import PRETRAINED_MODELS, allowed_values, validate
from cifar_report.training import averaging
from cifar_report.training.augmentation import crop, rotation, shift
from cifar_report.training.choices import chosen
from cifar_report.training.inputs import STATISTICS
from cifar_report.training.optimization import build_optimizer
from cifar_report.training.weights import DOWNLOADS


@pytest.mark.parametrize("name", PRETRAINED_MODELS)
def test_imagenet_statistics_and_files_are_those_of_torchvisions_weights(name):
    weights = models.get_model_weights(name).IMAGENET1K_V1
    preset = weights.transforms()
    assert STATISTICS["imagenet"] == (tuple(preset.mean), tuple(preset.std))
    assert DOWNLOADS[name] == weights.url
    assert set(DOWNLOADS) == set(PRETRAINED_MODELS)


def test_half_statistics_are_the_tutorials():
    """`Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))` takes pixels in [0, 1] to [-1, 1]."""
    white = transforms.Normalize(*STATISTICS["half"])(torch.ones(3, 1, 1))
    black = transforms.Normalize(*STATISTICS["half"])(torch.zeros(3, 1, 1))
    assert white.flatten().tolist() == [1, 1, 1]
    assert black.flatten().tolist() == [-1, -1, -1]


def test_cifar10_statistics_are_plausible_without_the_data():
    """Against the data they are tested in `test_augmentation.py`; here to two digits, as many papers state them."""
    assert np.round(STATISTICS["cifar10"], 2).tolist() == [[0.49, 0.48, 0.45], [0.25, 0.24, 0.26]]


def test_dropout_is_as_likely_as_pytorch_has_it():
    usual = inspect.signature(nn.Dropout).parameters["p"].default
    assert [m.p for m in chosen("model", "lenet").build().modules() if isinstance(m, nn.Dropout)] == [usual]


def test_images_are_turned_by_up_to_ten_degrees():
    """A bright dot right of the centre leaves its row by radius times sine."""
    images = torch.zeros(400, 3, 65, 65, dtype=torch.uint8)
    images[:, :, 32, 62] = 255
    turned = rotation.apply(images, torch.Generator().manual_seed(0), torch.zeros(400)).float().mean(1)  # (400, 65, 65)
    rows = torch.arange(65.0)[:, None] - 32
    angles = torch.rad2deg(torch.asin(((turned * rows).sum((1, 2)) / turned.sum((1, 2))) / 30))
    assert 9.5 < angles.max() < 10.3
    assert -10.3 < angles.min() < -9.5


def test_images_are_shifted_by_up_to_four_pixels():
    """He et al. 2015, section 4.2: 4 pixels are padded on each side."""
    images = torch.full((500, 3, 32, 32), 255, dtype=torch.uint8)
    black = (crop.apply(images, torch.Generator().manual_seed(0), torch.zeros(500))[:, 0] == 0).sum(
        (1, 2)
    )  # pixels an image
    assert black.max() == 32 * 32 - 28 * 28
    assert black.min() == 0


def test_the_fast_networks_images_are_shifted_by_up_to_two_pixels():
    """As in Jordan 2024; a column of a gradient says where it came from."""
    images = torch.arange(32, dtype=torch.uint8).expand(500, 3, 32, 32)
    shifted = shift.apply(images, torch.Generator().manual_seed(0), torch.zeros(500))
    moved = shifted[:, 0, 0, 16].int() - 16
    assert (moved.min(), moved.max()) == (-2, 2)


def test_weights_are_averaged_every_five_steps():
    """As in Jordan 2024: Lookahead every five steps, with a decay of 0.95 a step at the end."""
    assert (averaging.EVERY, averaging.DECAY) == (5, 0.95)


@pytest.mark.parametrize("name", allowed_values("optimizer"))
def test_what_the_schema_does_not_name_is_pytorchs_default(name):
    momentum = {} if name == "sgd" else {"momentum": 0, "nesterov": False}
    optimizer = build_optimizer(
        [nn.Parameter(torch.ones(1))], validate({"model": "fastnet", "optimizer": name, **momentum})
    )
    signature = inspect.signature(type(optimizer)).parameters
    ours = {"lr", "momentum", "nesterov", "weight_decay", "fused"}
    for setting, value in optimizer.defaults.items():
        if setting in signature and setting not in ours:
            assert value == signature[setting].default, setting
