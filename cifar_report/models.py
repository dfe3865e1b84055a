"""The architectures, their pretrained weights, which layers learn, and what a model costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from cifar_report.errors import RequestError
from cifar_report.experiment import Experiment
from cifar_report.initialization import initialize
from cifar_report.record import ModelRecord, WeightsRecord
from cifar_report.weights import find_weights

CLASSES = 10


class Net(nn.Module):
    """The PyTorch tutorial's network for (B, 3, 32, 32): 5 x 5 convolutions, linear layers; 62,006 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 3, 32, 32)
        x = self.pool(self.conv1(x).relu())  # (B, 6, 14, 14)
        x = self.pool(self.conv2(x).relu())  # (B, 16, 5, 5)
        x = self.fc1(x.flatten(1)).relu()  # (B, 120)
        x = self.fc2(x).relu()  # (B, 84)
        return self.fc3(x)  # (B, 10)


class LeNet(nn.Module):
    """Three 3 x 3 convolutions and two linear layers with dropout, for (B, 3, 32, 32); 541,094 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * 4 * 4, 500)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(500, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 3, 32, 32)
        x = self.pool(self.conv1(x).relu())  # (B, 16, 16, 16)
        x = self.pool(self.conv2(x).relu())  # (B, 32, 8, 8)
        x = self.pool(self.conv3(x).relu())  # (B, 64, 4, 4)
        x = self.dropout(self.fc1(x.flatten(1)).relu())  # (B, 500)
        return self.fc2(x)  # (B, 10)


def efficientnet_b0() -> nn.Module:
    """torchvision's EfficientNet-B0 with ten classes and a first convolution of stride 1, made for 32 pixels."""
    model = torchvision.models.efficientnet_b0(num_classes=CLASSES)
    model.features[0][0].stride = (1, 1)
    return model


# torchvision's own networks are built with their 1,000 classes, so that ImageNet weights fit; then the head is new.
MODELS: dict[str, Callable[[], nn.Module]] = {
    "net": Net,
    "lenet": LeNet,
    "efficientnet_b0": efficientnet_b0,
    "resnet18": torchvision.models.resnet18,
    "vgg16": torchvision.models.vgg16,
    "mobilenet_v2": torchvision.models.mobilenet_v2,
}
# torchvision's networks as the steps of their forward pass, in order.
STAGES: dict[str, Callable[[Any], list[nn.Module]]] = {
    "resnet18": lambda m: [
        *(m.conv1, m.bn1, m.relu, m.maxpool, m.layer1, m.layer2, m.layer3, m.layer4, m.avgpool),
        nn.Flatten(),
        m.fc,
    ],
    "vgg16": lambda m: [*m.features, m.avgpool, nn.Flatten(), *m.classifier],
    "mobilenet_v2": lambda m: [*m.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *m.classifier],
}
HEADS = {"resnet18": "fc", "vgg16": "classifier.6", "mobilenet_v2": "classifier.1"}

# The original report trained "the last two layers" without naming them. This reading fits its curves: ResNet-18
# overfits strongly (training loss 0.15), which a linear head on frozen features cannot, but its last stage
# (8.4 million parameters) with the head can; VGG-16 lies between (its last two linear layers, 16.8 million
# parameters behind frozen features); MobileNetV2 hardly learns (the last two modules of its classifier are a
# dropout, which has no parameters, and the head). Measurements: docs/last-two-layers.md.
LAST_TWO_LAYERS = {
    "resnet18": ("layer4", "fc"),
    "vgg16": ("classifier.3", "classifier.6"),
    "mobilenet_v2": ("classifier.0", "classifier.1"),
}


def build_model(parameters: Experiment) -> tuple[nn.Module, WeightsRecord | None, str | None]:
    """Build the network that `parameters` describe, in channels_last memory format, on the CPU.

    Random values come from torch's global generator, so seed it first.

    Returns:
        the model; where its pretrained weights came from; a warning if it had to start from random values instead.

    Raises:
        RequestError: weights are damaged, or can be had nowhere and `offline` is `fail`.
    """
    model = MODELS[parameters.model]()
    weights, warning = None, None
    if parameters.weights:
        file, weights, warning = find_weights(parameters)
        if file is not None:
            _load_weights(model, file)
    if parameters.model in HEADS:
        replace_head(model, HEADS[parameters.model])
    initialize(model, parameters.init)
    # Frozen layers full of random values would learn nothing from anything: without weights everything learns.
    freeze(model, parameters.model, parameters.trainable if warning is None else "all")
    return model.to(memory_format=torch.channels_last), weights, warning


def replace_head(model: nn.Module, name: str) -> None:
    """Put a new linear layer with ten classes in the place of the layer `name`."""
    parent, _, child = name.rpartition(".")
    module = model.get_submodule(parent)
    setattr(module, child, nn.Linear(model.get_submodule(name).in_features, CLASSES))  # type: ignore[arg-type]


def _load_weights(model: nn.Module, file: Path) -> None:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        # Stored in half precision or not, the model computes in float32.
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except Exception as error:  # every library has its own class for a damaged file
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"{file} does not hold the weights of {type(model).__name__} ({reason}); delete it and fetch it again"
        ) from None


def freeze(model: nn.Module, name: str, trainable: str) -> None:
    """Let `all` layers learn, the `head` alone, or the `last_two_layers`; the others are frozen."""
    if trainable == "all":
        return
    learning = LAST_TWO_LAYERS[name] if trainable == "last_two_layers" else (HEADS[name],)
    model.requires_grad_(False)
    for part in learning:
        model.get_submodule(part).requires_grad_(True)


def train_mode(model: nn.Module) -> None:
    """Set training mode where layers learn; frozen layers stay in evaluation mode.

    So frozen BatchNorm layers keep their ImageNet statistics: what is frozen is a fixed function of the image.
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


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
