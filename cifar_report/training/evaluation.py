"""What a trained model gets right and wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cifar_report.data.dataset import Split
from cifar_report.experiments.schema import Experiment
from cifar_report.records.predictions import Predictions
from cifar_report.training.inputs import to_input

# Images a batch without gradients, at 32 pixels; larger images get proportionally smaller batches.
EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Evaluation:
    """Logits (float32, (N, classes)) and labels (int64, (N,)) on the CPU, and what follows from them."""

    logits: torch.Tensor
    labels: torch.Tensor

    @property
    def predicted(self) -> torch.Tensor:
        """Predicted class of each image, int64 (N,)."""
        return self.logits.argmax(1)

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return F.cross_entropy(self.logits, self.labels).item()

    @property
    def correct(self) -> int:
        return int((self.predicted == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Fraction of images whose predicted class is their label."""
        return self.correct / len(self.labels)

    def predictions(self, index: np.ndarray) -> Predictions:
        """The answers as a run keeps them; `index` (int, (N,)) says which images of the whole test set these are."""
        return Predictions(
            logits=self.logits.numpy().astype(np.float16),
            labels=self.labels.numpy().astype(np.uint8),
            predicted=self.predicted.numpy().astype(np.uint8),
            index=index.astype(np.uint16),
        )


def evaluation_batch(image_size: int) -> int:
    """Images a batch without gradients."""
    return max(16, EVALUATION_BATCH * 32 * 32 // image_size**2)


@torch.no_grad()
def evaluate(
    model: nn.Module, split: Split, parameters: Experiment, *, amp: torch.dtype | None = None, test_time: bool = False
) -> Evaluation:
    """Run the model over a split in evaluation mode, without augmentation.

    Args:
        model: on the device of `split`.
        split: the images, or the model's inputs, and their labels.
        parameters: image size, normalization and views.
        amp: autocast to this type, or `None` for float32.
        test_time: average the logits over the views of each image that `parameters` ask for.
    """
    model.eval()
    device = split.images.device
    logits = []
    with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
        for images in split.images.split(evaluation_batch(parameters.image_size)):
            inputs = to_input(images, parameters.image_size, parameters.normalize)
            seen = views(inputs, parameters) if test_time else [(1.0, inputs)]
            answers = [share * model(view).float() for share, view in seen]
            logits.append(torch.stack(answers).sum(0))
    return Evaluation(torch.cat(logits).cpu(), split.labels.cpu())


def views(inputs: torch.Tensor, parameters: Experiment) -> list[tuple[float, torch.Tensor]]:
    """An input, float32 (B, 3, S, S), as it is and otherwise, and the share of each in their mean (Jordan 2024).

    With `test_time_shift` half is as it is, and a quarter each shifted by a pixel to both sides diagonally, edges
    mirrored; with `test_time_flip` half of each is mirrored.
    """
    seen = [(1.0, inputs)]
    if parameters.test_time_shift:
        padded = F.pad(inputs, [1] * 4, mode="reflect")
        seen = [(0.5, inputs), (0.25, padded[:, :, :-2, :-2]), (0.25, padded[:, :, 2:, 2:])]
    return [(share / 2, v) for share, view in seen for v in (view, view.flip(3))] if parameters.test_time_flip else seen
