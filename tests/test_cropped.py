"""Convolutions without the taps that see only padding: same outputs and gradients, fewer operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cifar_report.training.cropped import CroppedConv2d, crop_kernels

SHAPES = [  # side, kernel, stride, padding, side of the kernel that is left
    (1, 3, 1, 1, 1),
    (2, 3, 2, 1, 2),
    (2, 3, 1, 1, 3),
    (1, 5, 1, 2, 1),
    (2, 5, 1, 2, 3),
    (2, 5, 2, 2, 2),
    (3, 5, 2, 2, 5),
    (8, 3, 2, 1, 3),
    (32, 7, 2, 3, 7),
    (5, 1, 1, 0, 1),
]


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("side", "kernel", "stride", "padding", "left"), SHAPES)
def test_outputs_and_gradients_are_those_of_the_whole_kernel(side, kernel, stride, padding, left, groups):
    torch.manual_seed(0)
    whole = nn.Conv2d(4, 8, kernel, stride, padding, groups=groups).double()
    cropped = crop_kernels(nn.Sequential(whole))[0]
    assert type(cropped) is CroppedConv2d
    x = torch.randn(2, 4, side, side, dtype=torch.float64, requires_grad=True)
    results = []
    for forward in (nn.Conv2d._conv_forward, CroppedConv2d._conv_forward):
        y = forward(cropped, x, cropped.weight, cropped.bias)
        gradients = torch.autograd.grad(
            (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum(), [x, *whole.parameters()]
        )
        results.append([y, *gradients])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference)
    outside = left < kernel
    assert (results[1][2] == 0).any().item() == outside  # the gradient of the taps left out


@pytest.mark.parametrize(("side", "kernel", "stride", "padding", "left"), SHAPES)
def test_only_taps_that_see_the_image_are_computed(side, kernel, stride, padding, left, monkeypatch):
    conv2d, used = F.conv2d, []
    monkeypatch.setattr(F, "conv2d", lambda x, w, *rest: used.append(w.shape[-1]) or conv2d(x, w, *rest))
    crop_kernels(nn.Sequential(nn.Conv2d(1, 1, kernel, stride, padding)))(torch.zeros(1, 1, side, side))
    assert used == [left]


def test_names_and_values_of_the_weights_stay():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    after = crop_kernels(nn.Sequential(layer))[0].state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
