import torch
import torch.nn.functional as F
from torch import nn

from cifar_report.data.dataset import load_dataset
from cifar_report.training.build import build_model
from cifar_report.training.inputs import to_input
from cifar_report.training.loop import train
from cifar_report.training.whitening import whiten


def photographs(count: int = 300) -> torch.Tensor:
    """Smooth, so that neighbouring pixels are alike, as in photographs; with some noise, as there."""
    generator = torch.Generator().manual_seed(1)
    smooth = F.interpolate(torch.rand(count, 3, 8, 8, generator=generator), size=32, mode="bicubic")
    noisy = smooth + 0.1 * torch.randn(count, 3, 32, 32, generator=generator)
    return (noisy.clamp(0, 1) * 255).to(torch.uint8)


def test_outputs_are_uncorrelated_and_of_variance_one():
    layer, images = nn.Conv2d(3, 24, 2), photographs()
    whiten(layer, images, "cifar10")
    with torch.no_grad():
        outputs = F.conv2d(to_input(images, 32, "cifar10"), layer.weight)  # (300, 24, 31, 31)
    covariance = torch.cov(outputs[:, :12].transpose(0, 1).flatten(1))
    assert torch.allclose(covariance, torch.eye(12), atol=0.05)
    assert torch.equal(outputs[:, 12:], -outputs[:, :12])


def test_strongest_component_comes_first_and_is_brightness():
    layer = nn.Conv2d(3, 24, 2)
    whiten(layer, photographs(), "half")
    norms = layer.weight[:12].flatten(1).norm(dim=1)
    assert (norms.diff() > 0).all()  # the larger the variance, the smaller the weights
    same_sign = layer.weight.flatten(1).sign().sum(1).abs()
    assert same_sign[0] >= 4


def test_a_run_whitens_with_its_own_images_and_leaves_the_layer_alone(tiny):
    parameters = tiny(model="fastnet", whiten=True, batch_size=16, epochs=1)
    dataset = load_dataset(parameters)
    model = build_model(parameters)[0]
    train(model, dataset, parameters)
    expected = nn.Conv2d(3, 24, 2)
    whiten(expected, dataset.train.images, parameters.normalize)
    assert torch.equal(model.first.weight, expected.weight)
    assert not torch.equal(model.first.bias, build_model(parameters)[0].first.bias)  # which learns
