"""The model of the spread, against statsmodels, scipy and figures by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.weightstats import ttost_ind

from cifar_report.journal.statistics import Contrast, Kind, Spread, contrast, holm, verdict

ROWS = {"A": [0.71, 0.72, 0.70], "B": [0.735, 0.74, 0.72], "C": [0.70, 0.725, 0.71], "D": [0.69, 0.70]}
VALUES = {name: dict(enumerate(row)) for name, row in ROWS.items()}


def frame():
    return pd.DataFrame(
        [(n, str(s), v) for n, runs in VALUES.items() for s, v in runs.items()], columns=["e", "s", "y"]
    )


def test_total_and_residual_are_those_of_linear_models():
    spread = Spread.of(VALUES, 1e-9)
    one, two = (ols(f"y ~ {terms}", frame()).fit() for terms in ("C(e)", "C(e) + C(s)"))
    assert (spread.total, spread.total_df) == (pytest.approx(math.sqrt(one.mse_resid)), one.df_resid)
    assert (spread.residual, spread.residual_df) == (pytest.approx(math.sqrt(two.mse_resid)), two.df_resid)


def test_spread_of_one_experiment_is_its_standard_deviation():
    spread = Spread.of({"A": VALUES["A"]}, 1e-9)
    assert spread.total == spread.residual == pytest.approx(np.std(ROWS["A"], ddof=1))
    assert spread.total_df == spread.residual_df == 2


def test_one_degree_of_freedom_is_enough():
    spread = Spread.of({"EXP003": {0: 0.70, 1: 0.72}}, 1e-4)
    assert (spread.total_df, spread.total) == (1, pytest.approx(0.02 / math.sqrt(2)))
    spread = Spread.of({"EXP003": {0: 0.70, 1: 0.72}, "EXP004": {0: 0.71, 1: 0.76}}, 1e-4)
    assert (spread.residual_df, spread.residual) == (1, pytest.approx(0.015))


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [(0.001, 0.049, "higher"), (-0.001, 0.049, "lower"), (0.5, 0.05, "no difference shown")],
)
def test_two_models_differ_where_that_is_shown(difference, p, words):
    assert verdict(difference, p) == words


def test_single_runs_have_no_spread_and_equal_runs_that_of_one_image():
    assert Spread.of({"A": {0: 0.7}, "B": {0: 0.8}}, 0.001) is None
    assert Spread.of({"A": {0: 0.7, 1: 0.7}}, 0.001).total == 0.001


def test_prediction_interval_by_hand():
    # mean 2, sd 1, t quantile 4.3027 with two degrees of freedom, sqrt(1 + 1/3)
    low, high = Spread(1.0, 2, 1.0, 2).prediction(2.0, 3)
    assert (low, high) == pytest.approx((2 - 4.3027 * (4 / 3) ** 0.5, 2 + 4.3027 * (4 / 3) ** 0.5), abs=1e-3)


def test_contrast_within_a_group_is_on_the_residual_and_the_shared_seeds():
    groups, spread = dict.fromkeys(VALUES, "lenet"), Spread.of(VALUES, 1e-9)
    spreads = dict.fromkeys(VALUES, spread)
    found = contrast(["B"], ["A"], VALUES, spreads, groups)
    assert found.difference == pytest.approx(np.mean(ROWS["B"]) - np.mean(ROWS["A"]))
    assert found.error == pytest.approx(spread.residual * math.sqrt(2 / 3))
    assert contrast(["D"], ["A"], VALUES, spreads, groups).seeds == 2
    several = contrast(["A", "B"], ["C"], VALUES, spreads, groups)
    assert several.error == pytest.approx(spread.residual * math.sqrt((1 / 4 + 1 / 4 + 1) / 3))


def test_contrast_of_a_whole_table_is_the_linear_models(monkeypatch):
    """Where every experiment has every seed, the contrast is a coefficient of the two-way model."""
    monkeypatch.setattr("cifar_report.journal.statistics.PAIRED_FROM", 4)
    full = {name: VALUES[name] for name in "ABC"}
    data = frame().query("e != 'D'")
    fit = ols("y ~ C(e) + C(s)", data).fit()
    found = contrast(["B"], ["A"], full, dict.fromkeys(full, Spread.of(full, 1e-9)), dict.fromkeys(full, 0))
    name = "C(e)[T.B]"
    assert (found.difference, found.error) == pytest.approx((fit.params[name], fit.bse[name]))
    assert found.p == pytest.approx(fit.pvalues[name])
    assert found.interval == pytest.approx(tuple(fit.conf_int().loc[name]))


def test_pairing_needs_degrees_of_freedom():
    """With two experiments and three seeds it would leave two; independent samples have four."""
    two = {name: VALUES[name] for name in "AB"}
    found = contrast(["B"], ["A"], two, dict.fromkeys(two, Spread.of(two, 1e-9)), dict.fromkeys(two, 0))
    expected = stats.ttest_ind(list(two["B"].values()), list(two["A"].values()))
    assert (found.p, found.df, found.paired) == (pytest.approx(expected.pvalue), 4, False)


def test_a_seed_more_does_not_widen_an_interval():
    """Of five seeds one is shared. With a sixth the residual has the degrees of freedom to pair, on that one seed."""
    for seeds in (range(5), range(6), range(7)):
        values = {"A": {0: 0.70}, "B": {seed: 0.72 + 0.003 * (-1) ** seed for seed in seeds}}
        values["C"] = {seed: 0.74 + 0.002 * (-1) ** (seed // 2) for seed in seeds}
        found = contrast(["B"], ["A"], values, dict.fromkeys(values, Spread.of(values, 1e-9)), dict.fromkeys(values, 0))
        assert (found.paired, found.kinds[0].seeds) == (False, (len(seeds), 1))


def test_what_cannot_be_estimated_pairs_nothing():
    """Where no seed is shared often enough, seeds and noise cannot be told apart."""
    values = {"A": {seed: 0.7 + 0.001 * seed for seed in range(8)}, "B": {0: 0.8}}
    assert Spread.of({"A": {0: 0.7, 1: 0.72}, "B": {0: 0.8}}, 1e-9).residual_df == 0
    found = contrast(["B"], ["A"], values, dict.fromkeys(values, Spread.of(values, 1e-9)), dict.fromkeys(values, 0))
    assert (found.paired, found.df, found.seeds) == (False, 7, 1)


def test_contrast_between_networks_is_welchs():
    values = {"A": VALUES["A"], "B": {seed: 10 * value for seed, value in VALUES["B"].items()}}
    spreads = {name: Spread.of({name: runs}, 1e-9) for name, runs in values.items()}
    found = contrast(["B"], ["A"], values, spreads, {"A": "net", "B": "lenet"})
    expected = stats.ttest_ind(list(values["B"].values()), list(values["A"].values()), equal_var=False)
    assert (found.p, found.df) == pytest.approx((expected.pvalue, expected.df))


def test_equivalence_is_two_one_sided_tests():
    a, b = np.array(ROWS["A"]), np.add(ROWS["A"], [0.001, 0.004, -0.002])
    error = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 3)
    found = Contrast(float(b.mean() - a.mean()), error, 4, 3, (), paired=False)
    assert found.p_equivalent(0.03) == pytest.approx(ttost_ind(b, a, -0.03, 0.03)[0])


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_seeds_needed_are_those_of_a_power_table(margin):
    """As statsmodels has it for two independent samples, whose degrees of freedom grow with both."""
    found = Contrast(0.3, 1.0, 2, 2, (Kind(2 * 0.47**2, 2, (2, 2)),), paired=False)
    n = found.seeds_needed(margin, alpha=0.05, equivalence=False)
    assert n == math.ceil(TTestIndPower().solve_power(margin / 0.47, power=0.8, alpha=0.05))


def test_runs_of_one_kind_do_not_sharpen_what_is_known_of_another():
    """In 20,000 simulated trials the power is 80 % at the seeds named, and not with two fewer."""
    kinds = (Kind(0.6**2, 1, (2,)), Kind(0.2**2, 40, (3,)))
    n = Contrast(2.2, 0.1, 1.1, 2, kinds, paired=False).seeds_needed(1.0, alpha=0.01, equivalence=False)
    random = np.random.default_rng(0)

    def power(seeds: int) -> float:
        dfs = 1 + max(0, seeds - 2), 40 + max(0, seeds - 3)
        estimated = [k.variance / seeds * random.chisquare(df, 20_000) / df for k, df in zip(kinds, dfs, strict=True)]
        error = np.sqrt(sum(estimated))
        df = error**4 / sum(part**2 / df for part, df in zip(estimated, dfs, strict=True))
        differences = random.normal(1.0, math.sqrt(sum(k.variance for k in kinds) / seeds), 20_000)
        return float(np.mean(2 * stats.t.sf(abs(differences) / error, df) < 0.01))

    assert power(n) > 0.78
    assert power(n - 2) < 0.8


def test_seeds_needed_for_equivalence_do_what_they_promise():
    """In 4,000 simulated pairs of equal experiments, at least 80 % are shown to be equivalent."""
    df, unit = 14, 0.47 * 2**0.5
    n = Contrast(0.0, 1.0, df, 3, (Kind(unit**2, df, ()),), paired=True).seeds_needed(1.0, alpha=0.05, equivalence=True)
    random = np.random.default_rng(0)
    differences = random.normal(0, unit / n**0.5, 4000)
    errors = unit / n**0.5 * np.sqrt(random.chisquare(df, 4000) / df)
    shown = np.mean(stats.t.sf((1.0 - abs(differences)) / errors, df) < 0.05)
    assert 0.8 <= shown < 0.95
    endless = Contrast(0.0, 1.0, df, 3, (Kind(1e12, df, ()),), paired=True)
    assert endless.seeds_needed(1.0, alpha=0.05, equivalence=True) is None


def test_an_experiment_on_both_sides_counts_once():
    """(A + B) / 2 less A is half of B less A, and as well known."""
    values = {"A": {0: 0.70, 1: 0.72, 2: 0.71}, "B": {3: 0.74, 4: 0.73, 5: 0.75}}  # no seed is shared
    spreads, kinds = dict.fromkeys(values, Spread.of(values, 1e-9)), dict.fromkeys(values, 0)
    whole, half = (contrast(above, ["A"], values, spreads, kinds) for above in (["B"], ["A", "B"]))
    assert (2 * half.difference, 2 * half.error, half.p) == pytest.approx((whole.difference, whole.error, whole.p))


def test_holm_is_statsmodels():
    p = [0.04, 0.001, 0.03, 0.2, 0.011]
    adjusted = holm(dict(enumerate(p)))
    assert [adjusted[i] for i in range(len(p))] == pytest.approx(multipletests(p, method="holm")[1])
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
