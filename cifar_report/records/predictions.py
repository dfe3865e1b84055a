"""What a run answered to its test images, as its folder keeps it: read by notebooks and by the report."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from cifar_report.records.files import PREDICTIONS


@dataclass(frozen=True)
class Predictions:
    """What a model answered to N images: logits (float16, (N, classes)), labels and predicted classes (uint8, (N,)).

    `index` (uint16, (N,)) says which images of the whole test set these are, in ascending order. Rounded logits can tie
    where the model's did not, so `predicted` is kept apart.
    """

    logits: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    index: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction is right, bool (N,)."""
        return self.predicted == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """The probability each prediction was given, float64 (N,)."""
        most = np.finfo(np.float16).max  # what a network that trains badly goes beyond
        shares = softmax(self.logits.astype(np.float64).clip(-most, most), axis=1)
        return shares[np.arange(len(shares)), self.predicted]

    def confusion_matrix(self) -> np.ndarray:
        """Counts, int64 (classes, classes): rows are labels, columns are predictions."""
        classes = self.logits.shape[1]
        pairs = self.labels.astype(np.int64) * classes + self.predicted
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def confident_mistakes(self, count: int) -> np.ndarray:
        """Positions of the wrong answers with the highest probability, highest first, int64 (at most `count`,)."""
        wrong = np.flatnonzero(~self.correct)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:count]

    def shared_with(self, other: Predictions) -> tuple[np.ndarray, np.ndarray] | None:
        """Of the test images that both answered, whether this and the other are right, each bool (M,).

        `None` where they share no image, or number the images differently.
        """
        _, i, j = np.intersect1d(self.index, other.index, return_indices=True)
        if len(i) == 0 or not np.array_equal(self.labels[i], other.labels[j]):
            return None
        return self.correct[i], other.correct[j]

    def write(self, path: Path) -> None:
        """Write them as a run's `predictions.npz`."""
        np.savez_compressed(path, logits=self.logits, labels=self.labels, index=self.index, predicted=self.predicted)


def read_predictions(folder: Path) -> Predictions | None:
    """A run folder's `predictions.npz`; `None` where it is missing or damaged."""
    try:
        with np.load(folder / PREDICTIONS, allow_pickle=False) as stored:
            return Predictions(stored["logits"], stored["labels"], stored["predicted"], stored["index"])
    # A RuntimeError is damage that looks like a compression or encryption that zipfile lacks.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
