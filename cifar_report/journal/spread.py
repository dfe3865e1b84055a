"""How much runs differ by their seed alone, and what that says of differences between experiments.

Runs of one network on one budget share a model: value = experiment + seed + noise, experiments fixed, seeds random. The
*total* spread is that of a run about its experiment's mean, pooled over the experiments; the *residual* what is left
when the seed's effect is removed too. Predictions of a new run use the total, contrasts between experiments that share
seeds the residual. Pooling gives a spread from 16 degrees of freedom where three seeds of one experiment give two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
POWER = 0.8
MOST_SEEDS = 1000

Values = Mapping[str, Mapping[Any, float]]  # a figure of every run: experiment -> seed (and fold) -> value


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a run, with their degrees of freedom."""

    total: float
    total_df: int
    residual: float
    residual_df: int

    @classmethod
    def of(cls, values: Values, resolution: float) -> Spread | None:
        """The spread of runs of one network and budget; `None` where no experiment has two.

        `resolution`: the smallest difference between two values; no spread counts as less.
        """
        table = [(name, seed, value) for name, runs in values.items() for seed, value in runs.items()]
        names, seeds = (sorted({row[i] for row in table}) for i in (0, 1))
        df = len(table) - len(names)
        if df < 1:
            return None
        y = np.array([row[2] for row in table])
        experiment = np.array([[row[0] == name for name in names] for row in table], dtype=float)
        seed = np.array([[row[1] == other for other in seeds[1:]] for row in table], dtype=float).reshape(len(y), -1)
        total = _deviation(y, experiment)
        both = np.hstack([experiment, seed])
        residual = _deviation(y, both) if len(names) > 1 else None
        (t, t_df), (r, r_df) = total or (0.0, df), residual or total or (0.0, df)
        return cls(max(t, resolution), t_df, max(r, resolution), r_df)

    def prediction(self, mean: float, n: int) -> tuple[float, float]:
        """Where one new run lies in 95 of 100 cases, given the mean of n (Spence and Stanley 2016)."""
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.total_df)) * self.total * math.sqrt(1 + 1 / n)
        return mean - half, mean + half


def _deviation(y: np.ndarray, design: np.ndarray) -> tuple[float, int] | None:
    """Residual standard deviation of a linear model and its degrees of freedom; `None` if there are none."""
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    df = len(y) - int(rank)
    return (math.sqrt(float(((y - design @ solution) ** 2).sum()) / df), df) if df > 0 else None


@dataclass(frozen=True)
class Contrast:
    """A difference between two sides, each the mean of experiments, with its standard error."""

    difference: float
    error: float  # standard error
    df: float
    seeds: int  # of the side that has fewer
    unit: float  # standard error with a single seed a side
    paired: bool  # over the same seeds of one network and budget

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
        """Seeds a side for 80 % power: to show a difference of the margin, or equivalence where there is none."""
        for n in range(2, MOST_SEEDS + 1):
            error = self.unit / math.sqrt(n)
            if equivalence:
                power = 2 * stats.t.cdf(margin / error - stats.t.ppf(1 - alpha, self.df), self.df) - 1
            else:
                power = stats.nct.sf(stats.t.ppf(1 - alpha / 2, self.df), self.df, margin / error)
            if power >= POWER:
                return n
        return None


def contrast(
    above: Sequence[str], below: Sequence[str], values: Values, spreads: Mapping[str, Spread | None], groups: Mapping
) -> Contrast | None:
    """The mean of `above` less the mean of `below`; `None` where a run or the spread is missing.

    Experiments of one group (network and budget) are compared over the seeds that all of them have, on the residual
    spread. Others are compared as independent, each with its group's total spread (Welch 1947).
    """
    names = [*above, *below]
    if any(not values.get(name) or spreads.get(name) is None for name in names):
        return None
    weights = [1 / len(above)] * len(above) + [-1 / len(below)] * len(below)
    shared = sorted(set.intersection(*(set(values[name]) for name in names)))
    spread = spreads[names[0]]
    assert spread is not None
    if len({groups[name] for name in names}) == 1 and shared:
        difference = sum(w * np.mean([values[name][s] for s in shared]) for w, name in zip(weights, names, strict=True))
        unit = spread.residual * math.sqrt(sum(w**2 for w in weights))
        n = len(shared)
        return Contrast(float(difference), unit / math.sqrt(n), spread.residual_df, n, unit, paired=True)
    difference = sum(w * np.mean(list(values[name].values())) for w, name in zip(weights, names, strict=True))
    parts: dict = {}  # variance of each group's share, and its degrees of freedom
    unit = 0.0
    for w, name in zip(weights, names, strict=True):
        s = spreads[name]
        assert s is not None
        variance, _ = parts.get(groups[name], (0.0, 0))
        parts[groups[name]] = (variance + (w * s.total) ** 2 / len(values[name]), s.total_df)
        unit += (w * s.total) ** 2
    whole = sum(variance for variance, _ in parts.values())
    df = whole**2 / sum(variance**2 / df for variance, df in parts.values())
    seeds = min(len(values[name]) for name in names)
    return Contrast(float(difference), math.sqrt(whole), df, seeds, math.sqrt(unit), paired=False)
