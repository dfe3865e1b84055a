"""Folders of choices: one file for each value that a parameter can take. Imports no torch.

A file's name is the value, and stands in `experiments/schema.py`, too. Every file of a folder has the same function:

- `models/`: `build()` returns the network, its random weights drawn from torch's global generator. A file with ImageNet
  weights also has `HEAD`, the name of the layer that gives the logits and alone learns with `trainable: head`;
  `stages(network)`, the steps of the forward pass in order; and `LAST_TWO_LAYERS`, the names of the parts that learn
  with `trainable: last_two_layers`. `BFLOAT16_FROM` is the image size from which bfloat16 pays on a CPU that has it.
  `FIRST` names the convolution that `whiten` sets.
- `augmentation/`: `apply(images, generator, turn)` changes uint8 images (B, 3, H, W) at random. Each image of a
  batch draws its own numbers from `generator`; torchvision's transforms would draw one set a batch. `turn`, int64
  (B,), counts how often each image was shown, from a random number.
- `optimizers/`: `build(weights, parameters)`. What the parameters do not name is PyTorch's default.
- `schedules/`: `build(optimizer, parameters, steps)`, for all training steps, to be advanced once after each.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from cifar_report.experiments.schema import CHOICES


def chosen(parameter: str, value: str) -> ModuleType:
    """The file that stands for a value of one of the parameters in `CHOICES`, such as `models/net.py`."""
    return importlib.import_module(f"cifar_report.training.{CHOICES[parameter]}.{value}")
