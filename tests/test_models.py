from pathlib import Path

import pytest
import torch
from torch import nn

from cifar_report.experiments.schema import MODELS as NAMES
from cifar_report.experiments.schema import PRETRAINED_MODELS, allowed_values, validate
from cifar_report.training import choices
from cifar_report.training.build import build_model
from cifar_report.training.choices import chosen
from cifar_report.training.cost import count_parameters, forward_flops, model_record, training_pflop
from cifar_report.training.frozen import freeze, train_mode
from cifar_report.training.initialization import CONSTANT, INITIALIZATIONS, initialize


def test_every_name_of_the_schema_is_implemented():
    files = {path.stem for path in (Path(choices.__file__).parent / "models").glob("[a-z]*.py")}
    assert files == set(allowed_values("model")) == set(NAMES)
    assert {name for name in NAMES if hasattr(chosen("model", name), "HEAD")} == set(PRETRAINED_MODELS)
    assert ["default", *INITIALIZATIONS] == allowed_values("init")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("net", 62_006),
        ("lenet", 541_094),
        ("lenet_without_dropout", 541_094),
        ("lenet_batchnorm", 541_318),
        ("efficientnet_b0", 4_020_358),
        ("efficientnet_b0_without_dropout", 4_020_358),
        ("resnet18", 11_181_642),
        ("vgg16", 134_301_514),
        ("mobilenet_v2", 2_236_682),
        ("fastnet", 498_104),
        ("fastnet_wide", 1_972_792),
    ],
)
def test_ten_logits_and_the_known_number_of_parameters(name, parameters):
    model, weights, warning = build_model(validate({"model": name}))
    model.eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert count_parameters(model) == parameters
    assert (weights, warning) == (None, None)
    assert next(p for p in model.parameters() if p.dim() == 4).is_contiguous(memory_format=torch.channels_last)


def test_net_is_the_tutorials():
    torch.manual_seed(0)
    net = chosen("model", "net").build()
    tutorial = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    for ours, theirs in zip(net.parameters(), tutorial.parameters(), strict=True):
        theirs.data.copy_(ours.data)
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(net(x), tutorial(x))


def test_lenet_is_as_described():
    torch.manual_seed(0)
    lenet = chosen("model", "lenet").build().eval()
    described = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(1024, 500), nn.ReLU(), nn.Dropout(0.5), nn.Linear(500, 10),
    ).eval()  # fmt: skip
    for ours, theirs in zip(lenet.parameters(), described.parameters(), strict=True):
        theirs.data.copy_(ours.data)
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(lenet(x), described(x))
    lenet.train()
    assert not torch.equal(lenet(x), lenet(x))  # dropout


def test_variants_of_a_network_start_as_it_does_and_differ_in_what_they_are_called_after():
    def built(name: str) -> nn.Module:
        torch.manual_seed(0)
        return chosen("model", name).build().train()

    lenet, without, normalized = map(built, ("lenet", "lenet_without_dropout", "lenet_batchnorm"))
    x = torch.randn(16, 3, 32, 32)
    assert torch.equal(without(x), without(x))  # in training, too
    assert torch.equal(without(x), lenet.eval()(x))
    weights = {name.replace(".0.", "."): value for name, value in normalized.state_dict().items()}
    assert all(torch.equal(value, weights[name]) for name, value in lenet.state_dict().items())
    drops, steady = map(built, ("efficientnet_b0", "efficientnet_b0_without_dropout"))
    assert not torch.equal(drops(x), drops(x))
    assert torch.equal(steady(x), steady(x))
    drops, steady = (built(name) for name in ("efficientnet_b0", "efficientnet_b0_without_dropout"))
    assert torch.equal(steady.eval()(x), drops.eval()(x))
    z = normalized.conv1(x)  # (16, 16, 32, 32), before ReLU
    assert z.mean((0, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(z.var((0, 2, 3), correction=0), torch.ones(16), atol=1e-2)


def test_efficientnet_keeps_the_resolution_of_a_small_image():
    model = chosen("model", "efficientnet_b0").build().eval()
    assert model.features[0](torch.zeros(1, 3, 32, 32)).shape[-2:] == (32, 32)


def test_same_seed_same_weights():
    states = []
    for seed in (0, 0, 1):
        states.append(build_model(validate({"model": "lenet", "init": "kaiming_normal", "seed": seed}))[0].fc1.weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("name", "variance"),
    [  # of fc1, 1,024 inputs and 500 outputs: Glorot 2 / (in + out), He 2 / in
        ("xavier_uniform", 2 / 1524),
        ("xavier_normal", 2 / 1524),
        ("kaiming_uniform", 2 / 1024),
        ("kaiming_normal", 2 / 1024),
    ],
)
def test_initialization_has_the_papers_variance_and_no_bias(name, variance):
    torch.manual_seed(0)
    model = chosen("model", "lenet").build()
    initialize(model, name)
    assert model.fc1.weight.var().item() == pytest.approx(variance, rel=0.02)
    bound = (3 * variance) ** 0.5
    assert (model.fc1.weight.abs().max() <= bound) == name.endswith("uniform")
    assert all((m.bias == 0).all() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert model.conv1.weight.std() > 0.05  # convolutions too


def test_initialization_of_linear_layers_alone_leaves_convolutions_as_they_are():
    torch.manual_seed(0)
    model = chosen("model", "lenet").build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    initialize(model, "kaiming_normal", "linear")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("conv"), name
    assert model.fc1.weight.var().item() == pytest.approx(2 / 1024, rel=0.02)


def test_constant_initialization():
    model = chosen("model", "net").build()
    initialize(model, "constant")
    assert (model.conv2.weight == CONSTANT).all()


def test_default_initialization_is_pytorchs():
    torch.manual_seed(0)
    model = chosen("model", "net").build()
    before = model.fc1.weight.clone()
    initialize(model, "default")
    assert torch.equal(model.fc1.weight, before)


@pytest.mark.parametrize(
    ("name", "learning"),
    [("resnet18", 8_398_858), ("vgg16", 16_822_282), ("mobilenet_v2", 12_810)],
)
def test_last_two_layers(name, learning):
    model, _, _ = build_model(validate({"model": name}))
    freeze(model, name, "last_two_layers")
    record = model_record(name, model)
    assert record.trainable_parameters == learning
    assert record.parameters > learning


@pytest.mark.parametrize(("name", "learning"), [("resnet18", 5130), ("vgg16", 40_970), ("mobilenet_v2", 12_810)])
def test_head_alone(name, learning):
    model, _, _ = build_model(validate({"model": name}))
    freeze(model, name, "head")
    assert model_record(name, model).trainable_parameters == learning


def test_frozen_batchnorm_keeps_its_statistics_and_learning_batchnorm_adapts():
    model, _, _ = build_model(validate({"model": "resnet18"}))
    freeze(model, "resnet18", "last_two_layers")
    model.eval()
    train_mode(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(8, 3, 32, 32))
    changed = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed
    assert all(name.startswith("layer4") for name in changed)


def test_frozen_batchnorm_adapts_where_it_is_asked_to():
    model, _, _ = build_model(validate({"model": "resnet18"}))
    freeze(model, "resnet18", "last_two_layers")
    train_mode(model, "train")
    assert all(module.training for module in model.modules())
    before = model.bn1.running_mean.clone()
    model(torch.randn(8, 3, 32, 32))
    assert not torch.equal(model.bn1.running_mean, before)


def test_train_mode_trains_everything_where_nothing_is_frozen():
    model = chosen("model", "lenet").build().eval()
    train_mode(model)
    assert all(module.training for module in model.modules())


def test_flops_of_net_by_hand():
    convolutions = 28 * 28 * 6 * 75 + 10 * 10 * 16 * 150
    linear = 400 * 120 + 120 * 84 + 84 * 10
    model = chosen("model", "net").build().train()
    assert forward_flops(model, 32) == 2 * (convolutions + linear)
    assert model.training


def test_training_cost_of_net_by_hand():
    """Forward once, the weights' gradients once, the inputs' gradients once but for the images'."""
    first, second = 28 * 28 * 6 * 75, 10 * 10 * 16 * 150
    linear = 400 * 120 + 120 * 84 + 84 * 10
    parameters = validate({"model": "net", "epochs": 3})
    model, _, _ = build_model(parameters)
    by_hand = 2 * (2 * first + 3 * (second + linear))
    assert training_pflop(model, parameters, images=100, frozen_once=True) == pytest.approx(by_hand * 300 / 1e15)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_depthwise_convolutions_cost_as_much_backward_as_forward(name):
    """torch counts the weight gradient of a depthwise convolution as if it were dense."""
    parameters = validate({"model": name, "epochs": 1})
    model, _, _ = build_model(parameters)
    forward = forward_flops(model, 32)
    assert 2.8 * forward < training_pflop(model, parameters, images=1, frozen_once=True) * 1e15 < 3 * forward


def test_what_is_frozen_and_computed_once_counts_once():
    parameters = validate({"model": "resnet18", "epochs": 20})
    model, _, _ = build_model(parameters)
    freeze(model, "resnet18", "head")
    once, always = (training_pflop(model, parameters, images=1, frozen_once=o) * 1e15 for o in (True, False))
    head = 2 * 512 * 10
    assert once == pytest.approx(forward_flops(model, 32) - head + 20 * 2 * head)
    assert always == pytest.approx(20 * (forward_flops(model, 32) + head))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_networks_from_scratch_start_with_pytorchs_own_weights():
    """So `init: default` says; torchvision's EfficientNet brings others, made for a thousand classes."""
    for name in ("net", "lenet", "efficientnet_b0"):
        torch.manual_seed(0)
        for layer in chosen("model", name).build().modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                bound = layer.weight[0].numel() ** -0.5
                assert 0.8 * bound < layer.weight.abs().max() <= bound


def test_fastnet_is_as_described():
    torch.manual_seed(0)
    fast = chosen("model", "fastnet_wide").build()
    x = torch.randn(4, 3, 32, 32)
    h = torch.nn.functional.gelu(torch.nn.functional.conv2d(x, fast.first.weight, fast.first.bias))
    assert h.shape == (4, 24, 31, 31)
    for stage, (width, side) in zip(fast.stages, [(64, 15), (256, 7), (256, 3)], strict=True):
        h = nn.functional.max_pool2d(nn.functional.conv2d(h, stage.conv1.weight, padding=1), 2)
        h = nn.functional.gelu(nn.functional.batch_norm(h, None, None, None, stage.norm1.bias, training=True))
        h = nn.functional.conv2d(h, stage.conv2.weight, padding=1)
        h = nn.functional.gelu(nn.functional.batch_norm(h, None, None, None, stage.norm2.bias, training=True))
        assert h.shape == (4, width, side, side)
    logits = h.flatten(2).max(2).values @ fast.head.weight.T / 9
    assert torch.allclose(fast.train()(x), logits, atol=1e-6)
    gains = [p for name, p in fast.named_parameters() if "norm" in name and name.endswith("weight")]
    assert len(gains) == 6
    assert not any(p.requires_grad for p in gains)


def test_partial_identity_repeats_the_inputs():
    torch.manual_seed(0)
    fast = chosen("model", "fastnet").build()
    before = {name: value.clone() for name, value in fast.state_dict().items()}
    initialize(fast, "partial_identity")
    x = torch.randn(2, 24, 9, 9)
    assert torch.equal(fast.stages[0].conv1(x)[:, :24], x)
    assert torch.equal(fast.stages[0].conv1.weight[24:], before["stages.0.conv1.weight"][24:])
    assert torch.equal(fast.stages[2].conv2(torch.ones(1, 128, 3, 3)), torch.ones(1, 128, 3, 3))
    assert torch.equal(fast.head.weight, before["head.weight"])
