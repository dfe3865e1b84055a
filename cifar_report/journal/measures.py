"""Figures of a run that are read off its learning curve: columns of `Journal.runs`, and what statements speak of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cifar_report.records.record import EpochRecord, RunRecord

RISE = 2.0  # per cent by which the validation loss must end above its lowest to be called overfitting
PLATEAU = 0.01  # share of images: a curve has flattened where it is this near to the highest it will reach
STEADY = 10  # epochs without which nothing is said of how steady a curve is


@dataclass(frozen=True)
class Measure:
    """A column of `Journal.runs` that a statement may speak of.

    `step`: the smallest difference that it can show (`None`: one test image). `wide`: a prediction interval of more
    than ± this is too wide to tell. `exact`: the same for every seed.
    """

    column: str
    unit: str
    step: float | None = None
    wide: float = math.inf
    exact: bool = False


MEASURES = {
    "accuracy": Measure("accuracy", "points", wide=2),
    "gain from several views of test images": Measure("views_gain", "points", 0.01),
    "first epoch's accuracy": Measure("first_accuracy", "points", wide=2),
    "highest accuracy above the last epoch's": Measure("above_last", "points", 0.01),
    "rise of validation loss": Measure("loss_rise", "percentage points", 0.1),
    "jitter of validation loss": Measure("loss_jitter", "nats", 0.001),
    "epochs to 95 % of the highest accuracy": Measure("epochs_to_95_percent", "epochs", 1, wide=5),
    "epochs to within a point of the highest accuracy": Measure("epochs_to_plateau", "epochs", 1, wide=5),
    "epochs to the lowest validation loss": Measure("best_epoch", "epochs", 1, wide=5),
    "training cost": Measure("training_pflop", "PFLOP", 1e-6, exact=True),
}


def curve_measures(run: RunRecord) -> dict[str, float]:
    """What a complete run's curve shows: accuracies in percent, differences of them in points, losses in nats.

    `overfits` is 1 where the validation loss lies above its lowest by more than `RISE` in both of the last two epochs
    (one may be noise) while the training loss falls, else 0. What too few epochs do not show is NaN.
    """
    last = run.epochs[-1]
    best = min(run.epochs, key=lambda e: e.validation_loss)
    # Of no loss at all, which easy images reach, there is no rise.
    rises = [100 * (e.validation_loss / (best.validation_loss or math.nan) - 1) for e in run.epochs]
    highest = max(e.validation_accuracy for e in run.epochs)
    images = run.data.train_size * len(run.epochs) if run.data else 0
    overfits = min(rises[-2:]) > RISE and last.train_loss < best.train_loss
    return {
        "first_accuracy": 100 * run.epochs[0].validation_accuracy,
        "highest_accuracy": 100 * highest,
        "last_accuracy": 100 * last.validation_accuracy,
        "above_last": 100 * (highest - last.validation_accuracy),
        "epochs_to_95_percent": _epochs_to(0.95 * highest, run.epochs),
        "epochs_to_plateau": _epochs_to(highest - PLATEAU, run.epochs),
        "lowest_loss": best.validation_loss,
        "last_loss": last.validation_loss,
        "last_train_loss": last.train_loss,
        "loss_rise": rises[-1],
        "loss_jitter": jitter(run.epochs) if len(run.epochs) >= STEADY else math.nan,
        "overfits": float(overfits) if len(run.epochs) > 2 and best.validation_loss else math.nan,
        "gain_after_lowest_loss": 100 * (last.validation_accuracy - best.validation_accuracy),
        "gap": 100 * (last.train_accuracy - last.validation_accuracy),
        "images_per_second": images / run.seconds.train if images and run.seconds.train else math.nan,
    }


def _epochs_to(accuracy: float, history: Sequence[EpochRecord]) -> int:
    """The first epoch whose validation accuracy is at least this."""
    return next(e.epoch for e in history if e.validation_accuracy >= accuracy - 1e-9)


def jitter(history: Sequence[EpochRecord]) -> float:
    """Standard deviation of the steps of the validation loss from one epoch to the next.

    Of the last two thirds of the epochs: the descent before them, however smooth, would count as unrest.
    """
    losses = [epoch.validation_loss for epoch in history]
    return float(np.std(np.diff(losses[len(losses) // 3 :]), ddof=1))
