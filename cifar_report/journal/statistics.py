"""Intervals and tests, and one model of how much runs differ by their seed alone. scipy computes.

Runs of one kind (`Journal.kinds`) share a model: value = experiment + seed + noise, experiments fixed, seeds random.
The *total* spread is that of a run about its experiment's mean, pooled over the experiments; the *residual* what is
left when the seed's effect is removed too. Predictions of a new run use the total, contrasts between experiments that
share seeds the residual. Pooling gives a spread from 16 degrees of freedom where three seeds of one experiment give
two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from cifar_report.formatting import Key, grouped

SIGNIFICANCE = 0.05
LEVEL = 0.95
POWER = 0.8
PAIRED_FROM = 5  # degrees of freedom
MOST_SEEDS = 1000

Values = Mapping[str, Mapping[Any, float]]  # a figure of every run: experiment -> seed (and fold) -> value


def verdict(difference: float, p: float) -> str:
    """Two trained models, or unlike work, in words: their accuracies, not which is better."""
    if p >= SIGNIFICANCE:
        return "no difference shown"
    return "higher" if difference > 0 else "lower"


def wilson_interval(correct: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927): one run's accuracy over its test images."""
    interval = stats.binomtest(correct, total).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


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


def paired_interval(first_correct: np.ndarray, second_correct: np.ndarray) -> tuple[float, float]:
    """95 % interval of the second classifier's accuracy less the first's, over images (Agresti and Min 2005).

    Args:
        first_correct: bool (N,), whether the first was right on each image.
        second_correct: bool (N,), the same of the second.
    """
    n = len(first_correct) + 2
    lost = (int((first_correct & ~second_correct).sum()) + 0.5) / n
    gained = (int((~first_correct & second_correct).sum()) + 0.5) / n
    difference = gained - lost
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((gained + lost - difference**2) / n)
    return difference - half, difference + half


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Holm's step-down adjustment (Holm 1979) of p values by name."""
    names = sorted(p_values, key=p_values.__getitem__)
    raised = (min(1.0, (len(names) - rank) * p_values[name]) for rank, name in enumerate(names))
    return dict(zip(names, accumulate(raised, max), strict=True))


class Calibration(NamedTuple):
    """How far a model's probabilities can be believed, by bins of equal width over the probability of its answer.

    `bins` has a row a bin that is not empty: `count` of answers, their mean `confidence`, and `accuracy`, the share
    that is right. `error` is the expected calibration error, a fraction.
    """

    bins: pd.DataFrame
    error: float


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> Calibration:
    """Reliability curve and expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
        confidence: float (N,), the probability of each answer given.
        correct: bool (N,), whether it is right.
        bins: number of bins; 15 as in the paper.
    """
    place = np.clip(np.ceil(confidence * bins), 1, bins)  # (a, b] as in the paper
    answers = pd.DataFrame({"count": 1, "confidence": confidence, "accuracy": correct})
    found = answers.groupby(place).agg({"count": "sum", "confidence": "mean", "accuracy": "mean"})
    return Calibration(found, float((found["count"] * (found.accuracy - found.confidence).abs()).sum() / len(answers)))


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a run, with their degrees of freedom."""

    total: float
    total_df: int
    residual: float
    residual_df: int

    @classmethod
    def of(cls, values: Values, resolution: float) -> Spread | None:
        """The spread of runs of one kind; `None` where no experiment has two.

        `resolution`: the smallest difference between two values; no spread counts as less.
        """
        table = [(name, seed, value) for name, runs in values.items() for seed, value in runs.items()]
        names, seeds = (sorted({row[i] for row in table}) for i in (0, 1))
        if len(table) == len(names):
            return None
        y = np.array([row[2] for row in table])
        experiment = np.array([[row[0] == name for name in names] for row in table], dtype=float)
        seed = np.array([[row[1] == other for other in seeds[1:]] for row in table], dtype=float).reshape(len(y), -1)
        total, total_df = _deviation(y, experiment)
        residual, residual_df = _deviation(y, np.hstack([experiment, seed])) if len(names) > 1 else (total, total_df)
        return cls(max(total, resolution), total_df, max(residual, resolution), residual_df)

    def interval(self, mean: float, n: int) -> tuple[float, float]:
        """95 % interval of what a mean of n runs estimates."""
        return self._about(mean, math.sqrt(1 / n))

    def prediction(self, mean: float, n: int) -> tuple[float, float]:
        """Where one new run lies in 95 of 100 cases, given the mean of n (Spence and Stanley 2016)."""
        return self._about(mean, math.sqrt(1 + 1 / n))

    def _about(self, mean: float, spreads: float) -> tuple[float, float]:
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.total_df)) * self.total * spreads
        return mean - half, mean + half


def _deviation(y: np.ndarray, design: np.ndarray) -> tuple[float, int]:
    """Residual standard deviation of a linear model, 0 where nothing is left to vary, and its degrees of freedom."""
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    df = len(y) - int(rank)
    return math.sqrt(float(((y - design @ solution) ** 2).sum()) / max(1, df)), df


class Kind(NamedTuple):
    """The runs of one kind in a contrast: its variance with one seed a side, and how well that is known."""

    variance: float
    df: float
    seeds: tuple[int, ...]  # of each experiment, those on record


@dataclass(frozen=True)
class Contrast:
    """A difference between two sides, each the mean of experiments, with its standard error."""

    difference: float
    error: float  # standard error
    df: float
    seeds: int  # of the side that has fewer
    kinds: tuple[Kind, ...]
    paired: bool  # over the same seeds of one kind of run

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference."""
        low, high = stats.t.interval(LEVEL, self.df, loc=self.difference, scale=self.error)
        return float(low), float(high)

    @property
    def p(self) -> float:
        """Two-sided, of no difference."""
        return float(2 * stats.t.sf(abs(self.difference) / self.error, self.df))

    def p_equivalent(self, margin: float) -> float:
        """Of two one-sided tests (Schuirmann 1987): of a difference of at least the margin, either way."""
        return float(stats.t.sf((margin - abs(self.difference)) / self.error, self.df))

    def seeds_needed(self, margin: float, *, alpha: float, equivalence: bool) -> int | None:
        """Seeds a side for 80 % power: to show a difference of the margin, or equivalence where there is none.

        Each new run adds a degree of freedom to its kind.
        """
        variances = [kind.variance for kind in self.kinds]
        for n in range(2, MOST_SEEDS + 1):
            df = _welch(variances, [kind.df + sum(max(0, n - seeds) for seeds in kind.seeds) for kind in self.kinds])
            error = math.sqrt(sum(variances) / n)
            if equivalence:
                power = 2 * stats.t.cdf(margin / error - stats.t.ppf(1 - alpha, df), df) - 1
            else:
                power = stats.nct.sf(stats.t.ppf(1 - alpha / 2, df), df, margin / error)
            if power >= POWER:
                return n
        return None


def contrast(
    above: Sequence[str], below: Sequence[str], values: Values, spreads: Mapping[str, Spread | None], kind_of: Mapping
) -> Contrast | None:
    """The mean of `above` less the mean of `below`; `None` where a run or the spread is missing.

    They are compared as independent, each with the total spread of its kind (Welch 1947). Experiments of one kind may
    also be compared over the seeds that all of them have, on the residual spread. That is done if the spread has
    `PAIRED_FROM` degrees of freedom and gives the narrower interval; widths do not depend on the difference.
    """
    names = list(dict.fromkeys([*above, *below]))
    own = {name: spread for name in names if values.get(name) and (spread := spreads.get(name))}
    if own.keys() < set(names):
        return None
    weights = {name: above.count(name) / len(above) - below.count(name) / len(below) for name in names}
    variances = {name: (w * own[name].total) ** 2 for name, w in weights.items()}  # with a single seed
    counts = {name: len(values[name]) for name in names}
    members = grouped((kind_of[name], name) for name in names).values()
    kinds = tuple(
        Kind(sum(variances[name] for name in kind), own[kind[0]].total_df, tuple(counts[name] for name in kind))
        for kind in members
    )
    parts = [sum(variances[name] / counts[name] for name in kind) for kind in members]
    difference = float(sum(w * np.mean(list(values[name].values())) for name, w in weights.items()))
    df = _welch(parts, [kind.df for kind in kinds])
    found = Contrast(difference, math.sqrt(sum(parts)), df, min(counts.values()), kinds, paired=False)
    shared, spread = set.intersection(*(set(values[name]) for name in names)), own[names[0]]
    if len(members) > 1 or not shared or spread.residual_df < PAIRED_FROM:
        return found
    difference = float(sum(w * np.mean([values[name][seed] for seed in shared]) for name, w in weights.items()))
    n, variance = len(shared), spread.residual**2 * sum(w**2 for w in weights.values())
    kind = Kind(variance, spread.residual_df, (n,) * (len(names) - 1))
    paired = Contrast(difference, math.sqrt(variance / n), spread.residual_df, n, (kind,), paired=True)
    return min(paired, found, key=lambda c: c.interval[1] - c.interval[0])


def _welch(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """Degrees of freedom of a sum of variances that were estimated apart (Welch 1947)."""
    return sum(variances) ** 2 / sum(variance**2 / df for variance, df in zip(variances, dfs, strict=True))
