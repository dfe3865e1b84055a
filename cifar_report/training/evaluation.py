"""What a trained model gets right and wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cifar_report.data.dataset import Dataset, Split
from cifar_report.experiments.schema import Experiment
from cifar_report.records.predictions import Predictions
from cifar_report.training.inputs import to_input

# Images a batch without gradients, at 32 pixels; larger images get proportionally smaller batches.
EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Evaluation:
    """Logits (float32, (N, 10)) and labels (int64, (N,)) on the CPU, and what follows from them."""

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
    model: nn.Module, split: Split, parameters: Experiment, *, amp: torch.dtype | None = None, flip: bool = False
) -> Evaluation:
    """Run the model over a split in evaluation mode, without augmentation.

    Args:
        model: on the device of `split`.
        split: the images, or the model's inputs, and their labels.
        parameters: image size and normalization.
        amp: autocast to this type, or `None` for float32.
        flip: average the logits of each image and its mirror image.
    """
    model.eval()
    device = split.images.device
    logits = []
    with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
        for images in split.images.split(evaluation_batch(parameters.image_size)):
            inputs = to_input(images, parameters.image_size, parameters.normalize)
            answer = model(inputs).float()
            logits.append((answer + model(inputs.flip(3)).float()) / 2 if flip else answer)
    return Evaluation(torch.cat(logits).cpu(), split.labels.cpu())


def evaluate_on_test(
    model: nn.Module,
    dataset: Dataset,
    parameters: Experiment,
    *,
    last_validation: Evaluation,
    amp: torch.dtype | None = None,
) -> Evaluation:
    """Score the final model on the test images; where these validate, that was the last epoch's validation."""
    if dataset.validation is dataset.test:
        return last_validation
    return evaluate(model, dataset.test, parameters, amp=amp)
