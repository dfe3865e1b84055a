"""Against figures worked out by hand or printed in textbooks."""

import math

import numpy as np
import pytest
from scipy import stats

from cifar_report.journal.statistics import Spread, calibration, contrast, mcnemar, paired_interval, wilson_interval


def test_wilson_interval_by_its_formula():
    n, k, z = 10_000, 7_537, stats.norm.ppf(0.975)
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert wilson_interval(k, n) == pytest.approx((centre - half, centre + half))


def test_wilson_interval_at_the_ends():
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == 1


def test_the_interval_of_a_mean_by_hand():
    # mean 2, standard error 1 / sqrt(3), t quantile 4.3027 with two degrees of freedom
    alone = Spread.of({"a": {0: 1, 1: 2, 2: 3}}, 0.001)
    assert alone.interval(2, 3) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    # Seeds that agree: the spread is at least one image in 100, the t quantile 12.706 with one degree of freedom
    agreeing = Spread.of({"a": {0: 0.5, 1: 0.5}}, 0.01)
    assert agreeing.interval(0.5, 2) == pytest.approx((0.5 - 0.0898, 0.5 + 0.0898), abs=1e-4)
    # Two experiments of one network: squares of 2 and 8 over three degrees of freedom, t quantile 3.1824
    pooled = Spread.of({"a": {0: 1, 1: 2, 2: 3}, "b": {0: 3, 1: 7}}, 0.001)
    half = 3.1824 * (10 / 3) ** 0.5 / 2**0.5
    assert pooled.interval(5, 2) == pytest.approx((5 - half, 5 + half), abs=1e-3)


def test_mcnemar_is_the_exact_binomial_test_of_the_disagreements():
    first = np.array([True] * 9 + [False] * 2 + [True] * 50)
    second = np.array([False] * 9 + [True] * 2 + [True] * 50)
    by_hand = 2 * sum(stats.binom.pmf(k, 11, 0.5) for k in (0, 1, 2))
    assert mcnemar(first, second) == pytest.approx(by_hand)
    assert mcnemar(first, first) == 1.0


def test_the_interval_over_images_holds_the_true_difference_in_95_of_100_cases():
    random = np.random.default_rng(0)
    answers = random.choice(4, p=[0.70, 0.10, 0.06, 0.14], size=(2000, 1000))  # both right, first only, second only
    held = [low <= -0.04 <= high for row in answers for low, high in [paired_interval(row < 2, row % 2 == 0)]]
    assert 0.94 <= np.mean(held) <= 0.965
    low, high = paired_interval(np.array([True] * 9 + [False] * 2), np.array([False] * 9 + [True] * 2))
    gained, lost, n = 2.5, 9.5, 13
    error = math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    assert (low + high) / 2 == pytest.approx((gained - lost) / n)
    assert (high - low) / 2 == pytest.approx(1.959964 * error)


def test_two_seeds_with_the_same_difference_are_no_certainty():
    values = {"A": {0: 0.41, 1: 0.43}, "B": {0: 0.412, 1: 0.432}}
    spread = Spread.of(values, 0.002)  # of one image
    found = contrast(["B"], ["A"], values, dict.fromkeys(values, spread), dict.fromkeys(values, "group"))
    assert found.p == pytest.approx(stats.ttest_ind([0.412, 0.432], [0.41, 0.43]).pvalue)


def test_calibration_error_by_hand():
    # Bins (0.4, 0.5] and (0.9, 1.0] of ten: 4 answers at 0.5 of which 1 is right, 6 at 0.95 of which 6 are.
    confidence = np.array([0.5] * 4 + [0.95] * 6)
    correct = np.array([True] + [False] * 3 + [True] * 6)
    curve = calibration(confidence, correct, bins=10)
    assert curve.bins["count"].to_dict() == {5: 4, 10: 6}
    assert curve.bins.accuracy[5] == 0.25
    assert curve.bins.confidence[10] == pytest.approx(0.95)
    assert curve.error == pytest.approx(0.4 * 0.25 + 0.6 * 0.05)


def test_calibrated_answers_have_next_to_no_calibration_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 200_000)
    curve = calibration(confidence, rng.uniform(size=confidence.size) < confidence)
    assert curve.error < 0.01
    assert curve.bins["count"].sum() == confidence.size
