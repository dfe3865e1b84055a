"""How an experiment learned, in numbers read off its learning curves; of several seeds, off the means of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from cifar_report.journal.journal import Result
from cifar_report.records.record import EpochRecord, RunRecord

OVERFITTING_RISE = 0.02  # share by which validation loss must end above its minimum to be called overfitting
PLATEAU = 0.01  # share of images: a curve has flattened where it is this near to the highest it will reach
STEADY = 6  # epochs without which nothing is said of how steady a curve is


@dataclass(frozen=True)
class Learning:
    """The curves of one experiment, at least an epoch long. Losses are in nats, accuracies fractions."""

    name: str
    runs: tuple[RunRecord, ...]

    @classmethod
    def of(cls, result: Result) -> Learning:
        """The curves of a result's complete runs."""
        return cls(result.entry.id, result.runs)

    @cached_property
    def epochs(self) -> list[Any]:
        """Means over the seeds, epoch by epoch, with the fields of `EpochRecord`."""
        frame = pd.DataFrame([dict(epoch) for run in self.runs for epoch in run.epochs])
        return list(frame.groupby("epoch", as_index=False).mean().itertuples(index=False))

    @property
    def best(self) -> Any:
        """The epoch with the lowest validation loss."""
        return min(self.epochs, key=lambda e: e.validation_loss)

    @property
    def highest(self) -> Any:
        """The epoch with the highest validation accuracy."""
        return max(self.epochs, key=lambda e: e.validation_accuracy)

    @property
    def last(self) -> Any:
        """The last epoch."""
        return self.epochs[-1]

    @property
    def rise(self) -> float:
        """Share by which the validation loss of the mean curve ends above its lowest."""
        return rise(self.epochs)

    @property
    def course(self) -> Literal["overfits", "rises", "falls"] | None:
        """Whether the validation loss rises while the training loss falls; `None` of fewer than three epochs.

        One epoch may be noise: the loss must lie above its lowest in both of the last two epochs to be overfitting.
        """
        if len(self.epochs) < 3:
            return None
        if self.rise <= OVERFITTING_RISE:
            return "falls"
        ends = [e.validation_loss / self.best.validation_loss - 1 for e in self.epochs[-2:]]
        overfits = min(ends) > OVERFITTING_RISE and self.last.train_loss < self.best.train_loss
        return "overfits" if overfits else "rises"

    @property
    def plateau(self) -> int | None:
        """The first epoch after which the validation accuracy's highest rises by no more than a point.

        `None` where that is one of the last two epochs, or of fewer than four.
        """
        near = epochs_to(self.epochs, less=PLATEAU)
        return near if len(self.epochs) > 3 and near <= len(self.epochs) - 2 else None

    @property
    def gap(self) -> float:
        """Training accuracy, taken while the model learns, less validation accuracy, both of the last epoch."""
        return self.last.train_accuracy - self.last.validation_accuracy

    @property
    def jitter(self) -> float | None:
        """`jitter` of the validation loss, its mean over the seeds; `None` of too few epochs."""
        return float(np.mean([jitter(run.epochs) for run in self.runs])) if len(self.epochs) >= STEADY else None

    @property
    def images_per_second(self) -> float | None:
        """Training images a second of training, validation and what is computed once included."""
        seconds = sum(run.seconds.train for run in self.runs)
        images = sum(run.data.train_size * len(run.epochs) for run in self.runs if run.data)
        return images / seconds if seconds and images else None


def rise(history: Sequence[EpochRecord]) -> float:
    """Share by which the validation loss ends above its lowest."""
    return history[-1].validation_loss / min(e.validation_loss for e in history) - 1


def epochs_to(history: Sequence[EpochRecord], *, share: float = 1.0, less: float = 0.0) -> int:
    """The first epoch whose validation accuracy is at least a share of the highest, or so much less."""
    enough = share * max(e.validation_accuracy for e in history) - less - 1e-9
    return next(e.epoch for e in history if e.validation_accuracy >= enough)


def jitter(history: Sequence[EpochRecord]) -> float:
    """Standard deviation of the steps of the validation loss from one epoch to the next.

    Of the last two thirds of the epochs: the descent before them, however smooth, would count as unrest.
    """
    losses = [epoch.validation_loss for epoch in history]
    return float(np.std(np.diff(losses[len(losses) // 3 :]), ddof=1))
