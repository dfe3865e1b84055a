"""Intervals and tests. scipy computes; here stands which one is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05


def verdict(difference: float, p: float) -> str:
    """A comparison in words: better or worse only where the test says so."""
    if p >= SIGNIFICANCE:
        return "no difference shown"
    return "better" if difference > 0 else "worse"


def wilson_interval(correct: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927): one run's accuracy over its test images."""
    interval = stats.binomtest(correct, total).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def t_interval(values: Sequence[float], resolution: float, level: float = 0.95) -> tuple[float, float]:
    """Student's t-interval of the mean over seeds; at least two values.

    Accuracies come in steps of `resolution`, one over the number of images. A smaller spread cannot be told from none,
    so the standard deviation counts as at least that: seeds that happen to agree make no interval of no width.
    """
    mean, error = float(np.mean(values)), _standard_error(values, resolution)
    low, high = stats.t.interval(level, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def mcnemar(first_correct: np.ndarray, second_correct: np.ndarray) -> float:
    """Exact two-sided p value of McNemar's test (McNemar 1947) for two classifiers on the same images.

    Args:
        first_correct: bool (N,), whether the first was right on each image.
        second_correct: bool (N,), the same of the second.
    """
    only_first = int((first_correct & ~second_correct).sum())
    only_second = int((~first_correct & second_correct).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def paired_t(first: Sequence[float], second: Sequence[float], resolution: float) -> float:
    """Two-sided p value of the paired t-test over seeds; at least two pairs. `resolution` as in `t_interval`."""
    differences = np.subtract(second, first)
    t = abs(float(differences.mean())) / _standard_error(differences, resolution)
    return float(2 * stats.t.sf(t, len(differences) - 1))


def _standard_error(values: Sequence[float] | np.ndarray, resolution: float) -> float:
    return max(float(np.std(values, ddof=1)), resolution) / len(values) ** 0.5


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


@dataclass(frozen=True)
class Calibration:
    """How far a model's probabilities can be believed, by bins of equal width over the probability of its answer.

    `counts` (int, (bins,)): answers in each bin; `confidence` and `accuracy` (float, (bins,)): their mean probability
    and the share that is right, 0 where a bin is empty; `error`: the expected calibration error, a fraction.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> Calibration:
    """Reliability curve and expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
        confidence: float (N,), the probability of each answer given.
        correct: bool (N,), whether it is right.
        bins: number of bins; 15 as in the paper.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # (a, b] as in the paper
    counts = np.bincount(place, minlength=bins)
    filled = np.maximum(counts, 1)
    mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / filled
    accuracy = np.bincount(place, weights=correct, minlength=bins) / filled
    error = float((counts * np.abs(accuracy - mean_confidence)).sum() / counts.sum())
    return Calibration(counts, mean_confidence, accuracy, error)
