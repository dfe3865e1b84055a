import math
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from records import LABELS, write_run
from scipy import stats

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.formatting import p_text
from cifar_report.journal.comparison import WIDE, compare
from cifar_report.journal.diff import compare_experiments
from cifar_report.journal.frames import family_frame, results_frame
from cifar_report.journal.journal import Journal
from cifar_report.journal.measures import curve_measures, jitter
from cifar_report.journal.observations import observe
from cifar_report.journal.statements import _caveats, findings
from cifar_report.journal.statistics import contrast, mcnemar, wilson_interval
from cifar_report.journal.work import (
    altered_parameters,
    at_full_budget,
    changed_parameters,
    less_work,
    reproduce_command,
    unlike_because,
)
from cifar_report.records.record import ErrorRecord, SecondsRecord, read_record, run_folder, write_record
from cifar_report.report import sections


def family(journal, name):
    seen = observe(journal.family_results(name), journal)
    return [str(sentence).replace("\N{NO-BREAK SPACE}", " ") for sentence in seen]


def test_journal_reads_complete_and_failed_runs_in_order(tmp_path):
    write_run(tmp_path, "EXP003", seed=1)
    write_run(tmp_path, "EXP003", seed=0)
    write_run(tmp_path, "EXP001", failed=ErrorRecord(type="X", message="m", cell=3, cell_source="boom()"))
    journal = Journal(tmp_path)
    assert list(journal.complete) == ["EXP003"]
    assert [run.seed for run in journal.results["EXP003"].runs] == [0, 1]
    assert [run.experiment for run in journal.failures] == ["EXP001"]
    assert list(journal.results) == list(load_catalog().entries)
    assert list(Journal(tmp_path, ["EXP003"]).results) == ["EXP003"]
    assert len(Journal(tmp_path, seeds=[1]).results["EXP003"].runs) == 1


def test_a_run_that_failed_at_once_takes_nothing_from_the_tables(tmp_path):
    error = ErrorRecord(type="WorkerDied", message="m")
    write_run(tmp_path, "EXP000", failed=error)  # first of all, and without an epoch
    write_run(tmp_path, "EXP003")
    failed = write_run(tmp_path, "EXP003", seed=1, failed=error)
    died = failed.model_copy(update={"seconds": SecondsRecord(total=5)})
    write_record(run_folder(tmp_path, "EXP003", 1), died)
    table = results_frame(Journal(tmp_path))
    assert list(table.columns).index("last_accuracy") < list(table.columns).index("settings")
    page = sections.results_at_a_glance(Journal(tmp_path)).html
    assert ">10 min<" in page
    assert ">0 s<" not in page


def test_an_older_run_whose_name_reads_like_a_sweep_is_read(tmp_path):
    run = write_run(tmp_path, "EXP003")
    older = {name: value for name, value in run.parameters.items() if name != "mix"}
    old = run.model_copy(update={"experiment": "MINE-MIX-1", "parameters": older})
    write_record(run_folder(tmp_path, "MINE-MIX-1", 0), old)
    assert list(Journal(tmp_path).runs.experiment) == ["EXP003", "MINE-MIX-1"]


def test_one_run_has_a_wilson_interval_unless_others_tell_the_spread(tmp_path):
    write_run(tmp_path, "EXP003", 0.7)
    one = Journal(tmp_path).results["EXP003"]
    assert one.interval == wilson_interval(700, 1000)
    assert one.interval_kind == "Wilson, n = 1"
    write_run(tmp_path, "EXP003", 0.72, seed=1)
    two = Journal(tmp_path).results["EXP003"]
    assert two.accuracy == pytest.approx(0.71)
    assert two.interval == pytest.approx((0.71 - 12.7062 * 0.01, 0.71 + 12.7062 * 0.01), abs=1e-3)
    assert two.interval_kind == "t, n = 2, 1 df"
    write_run(tmp_path, "EXP004", 0.6)
    other = Journal(tmp_path).results["EXP004"]
    assert other.interval == pytest.approx((0.6 - 12.7062 * 0.01 * 2**0.5, 0.6 + 12.7062 * 0.01 * 2**0.5), abs=1e-3)
    assert other.interval_kind == "t, n = 1, 1 df"
    for seed, accuracy in enumerate((0.99, 1.0)):
        write_run(tmp_path, "EXP000", accuracy, seed=seed)
    assert Journal(tmp_path).results["EXP000"].interval[1] == 1  # no accuracy is above


def test_a_repetition_has_the_spread_of_its_own_seeds_too(tmp_path):
    """EXP009 is EXP003 by another name: a seed of both counts once, seeds of either all."""
    write_run(tmp_path, "EXP003", 0.7)
    for seed, accuracy in enumerate((0.7, 0.8, 0.6)):
        write_run(tmp_path, "EXP009", accuracy, seed=seed)
    repetition = Journal(tmp_path).results["EXP009"]
    assert repetition.interval_kind == "t, n = 3, 2 df"
    assert repetition.interval == pytest.approx((0.7 - 4.3027 * 0.1 / 3**0.5, 0.7 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)


def test_comparison_on_the_same_images_is_mcnemars(tmp_path):
    write_run(tmp_path, "EXP001", 0.70)
    write_run(tmp_path, "EXP003", 0.76, lucky=40)
    comparison = Journal(tmp_path).comparisons["EXP003"]
    first, second = np.arange(1000) < 700, (np.arange(1000) - 40) % 1000 < 760
    assert comparison.difference == pytest.approx(0.06)
    assert comparison.p == pytest.approx(mcnemar(first, second))
    assert comparison.verdict == "higher"  # of two trained models, not better of methods
    assert "1,000 images" in comparison.test


def test_two_models_that_hardly_differ_show_no_difference(tmp_path):
    write_run(tmp_path, "EXP001", 0.70)
    write_run(tmp_path, "EXP003", 0.702, lucky=300)
    assert Journal(tmp_path).comparisons["EXP003"].verdict == "no difference shown"


def test_a_repetition_is_no_evidence_and_adjusts_no_p_value(tmp_path):
    for name in ("EXP003", "EXP007", "EXP009"):
        for seed in (0, 1, 2):
            write_run(tmp_path, name, 0.7 + seed / 1000 + (0.01 * (seed + 1) if name == "EXP007" else 0), seed=seed)
    comparisons = Journal(tmp_path).comparisons
    assert comparisons["EXP007"].p == pytest.approx(
        stats.ttest_ind([0.7, 0.701, 0.702], [0.71, 0.721, 0.732], equal_var=False).pvalue
    )
    assert Journal(tmp_path).accuracy_spreads["EXP003"].total_df == 2  # of one experiment: EXP009 is EXP003


def test_one_shared_seed_of_several_is_compared_on_the_pooled_spread(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path, "EXP003", 0.74 + seed / 100, seed=seed)
    write_run(tmp_path, "EXP001", 0.75)
    comparison = Journal(tmp_path).comparisons["EXP003"]
    assert comparison.difference == pytest.approx(0)  # of the means
    assert (comparison.seeds, comparison.verdict) == (1, "open")


def test_p_values_are_holm_adjusted_within_the_family(tmp_path):
    write_run(tmp_path, "EXP001", 0.70)
    write_run(tmp_path, "EXP003", 0.705)
    assert Journal(tmp_path).comparisons["EXP003"].p == pytest.approx(2 / 2**5)  # five images, all gained
    write_run(tmp_path, "EXP004", 0.704)
    write_run(tmp_path, "EXP007", 0.9)  # another family
    comparisons = Journal(tmp_path).comparisons
    assert comparisons["EXP003"].p == pytest.approx(2 * 2 / 2**5)
    assert comparisons["EXP004"].p == pytest.approx(2 / 2**4)
    assert comparisons["EXP007"].p < 1e-9


@pytest.mark.parametrize("seeds", [3, 6])
def test_several_seeds_are_paired(tmp_path, seeds):
    before, gains = [0.70, 0.71, 0.69, 0.72, 0.70, 0.68], [0.05, 0.055, 0.055, 0.05, 0.052, 0.054]
    after = [base + gain for base, gain in zip(before, gains, strict=True)]
    for seed in range(seeds):
        write_run(tmp_path, "EXP001", before[seed], seed=seed)
        write_run(tmp_path, "EXP003", after[seed], seed=seed)
    comparison = Journal(tmp_path).comparisons["EXP003"]
    how = "paired by seed" if seeds == 6 else "independent"
    assert comparison.test == f"t-test, pooled spread, {how}, n = {seeds} seeds"
    assert comparison.verdict == "better"
    # Of two experiments the pooled test is the paired one, where pairing leaves enough degrees of freedom.
    unpaired = stats.ttest_ind(after[:seeds], before[:seeds])
    expected = stats.ttest_rel(after, before) if seeds == 6 else unpaired
    assert comparison.difference == pytest.approx(np.mean(after[:seeds]) - np.mean(before[:seeds]))
    assert comparison.p == pytest.approx(expected.pvalue)
    assert comparison.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize(
    ("gain", "word"), [(0.0, "equivalent"), (0.005, "slightly better"), (-0.005, "slightly worse"), (0.012, "better")]
)
def test_methods_are_equivalent_better_or_open(tmp_path, gain, word):
    noise = [0.001, -0.001, 0.002, -0.002, 0.0]
    for seed in range(5):
        write_run(tmp_path, "EXP001", 0.70 + noise[seed], seed=seed)
        write_run(tmp_path, "EXP003", 0.70 + gain + noise[4 - seed], seed=seed)
    assert Journal(tmp_path).comparisons["EXP003"].verdict == word


def test_an_open_comparison_says_how_many_seeds_it_needs(tmp_path):
    noise = [0.01, -0.01, 0.0]
    for seed in range(3):
        write_run(tmp_path, "EXP001", 0.70 + noise[seed], seed=seed)
        write_run(tmp_path, "EXP003", 0.705 + noise[2 - seed], seed=seed)
        write_run(tmp_path, "EXP004", 0.80 + noise[seed], seed=seed)
    journal = Journal(tmp_path)
    found = journal.comparisons["EXP003"]
    assert found.contrast is not None
    alone, of_two = (
        [found.contrast.seeds_needed(0.01, alpha=alpha, equivalence=e) for e in (False, True)]
        for alpha in (0.05, 0.025)
    )
    assert found.seeds_needed == max(of_two) > max(alone)  # p values are adjusted for two comparisons
    assert found.outcome == f"open (needs n = {max(of_two)})"
    assert f"n = 3, needs {max(of_two)})" in str(found)
    table = results_frame(journal).groupby("experiment").seeds_needed.first()
    assert table["EXP003"] == max(of_two)
    assert journal.comparisons["EXP004"].outcome == "better"
    assert pd.isna(table["EXP004"])
    assert compare_experiments("EXP001", "EXP003", tmp_path).verdict == f"open (needs n = {max(alone)})"


def test_seeds_that_were_tested_on_other_images_are_not_compared_as_methods(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "EXP001", 0.70 + seed / 100, seed=seed)
        write_run(tmp_path, "EXP003", 0.75 + seed / 100, seed=seed, index=np.arange(400))
    found = Journal(tmp_path).comparisons["EXP003"]
    assert found.caveat == "tested on 400 and 1,000 images"
    assert found.verdict == "higher"


def test_runs_that_diverged_are_named_where_their_experiment_is_compared(tmp_path):
    error = ErrorRecord(type="DivergedError", message="try a smaller lr", cell=None, cell_source=None)
    for seed in range(4):
        write_run(tmp_path, "EXP001", 0.70 + seed / 100, seed=seed)
        write_run(tmp_path, "EXP003", 0.80 + seed / 100, seed=seed, failed=error if seed == 3 else None)
    write_run(tmp_path, "EXP003", seed=4, failed=error, parameters={"lr": 100})  # another experiment by this name
    found = Journal(tmp_path).comparisons["EXP003"]
    assert found.caveat == "1 of 4 runs of EXP003 diverged and are left out"
    assert found.verdict == "higher"


def test_a_journal_of_failures_is_of_the_images_that_they_asked_for(tmp_path):
    error = ErrorRecord(type="DivergedError", message="try a smaller lr", cell=None, cell_source=None)
    write_run(tmp_path, "EXP003", failed=error, parameters={"dataset": "folder"})
    assert Journal(tmp_path).title == "What changes the score on these images?"
    write_run(tmp_path, "EXP004", 0.7)
    assert Journal(tmp_path).title == "What changes the score on CIFAR-10?"


def test_more_seeds_than_a_thousand_are_not_named(tmp_path):
    for seed, accuracy in enumerate((0.1, 0.9, 0.5)):
        write_run(tmp_path, "EXP001", accuracy, seed=seed)
        write_run(tmp_path, "EXP003", 1 - accuracy, seed=seed)
    found = Journal(tmp_path).comparisons["EXP003"]
    assert (found.outcome, found.seeds_needed) == ("open", None)


def test_of_many_seeds_that_guess_one_may_be_above_chance_by_chance(tmp_path):
    random = np.random.default_rng(0)
    for seed, right in enumerate(random.binomial(1000, 0.1, size=40)):
        write_run(tmp_path, "EXP001", right / 1000, seed=seed)
    sentences = "\n".join(family(Journal(tmp_path), "architectures"))
    assert "EXP001 is not shown to be above chance" in sentences
    intervals = sentences.partition("over test images are ")[2].partition(".\n")[0].split("; ")
    assert len(intervals) == len(set(intervals)) > 1


def test_subsets_are_compared_on_the_images_they_share(tmp_path):
    write_run(tmp_path, "EXP001", 0.7)
    write_run(tmp_path, "EXP003", 0.7, index=np.arange(0, 1000, 2))
    comparison = Journal(tmp_path).comparisons["EXP003"]
    assert "500 images" in comparison.test
    assert comparison.difference == 0


def test_unlike_comparisons_carry_a_caveat(tmp_path):
    write_run(tmp_path, "EXP001", 0.7)
    write_run(tmp_path, "EXP003", 0.9, train_size=1000)
    journal = Journal(tmp_path)
    assert journal.comparisons["EXP003"].caveat == "trained on 50,000 and 1,000 images"
    sentences = "\n".join(family(journal, "initialization"))
    assert (
        "Not directly comparable, in points: EXP003 against EXP001 "
        "+20.00 (+17.48 to +22.44 over test images, p < 0.001, n = 1), higher "
        "(trained on 50,000 and 1,000 images)."
    ) in sentences
    assert journal.comparisons["EXP003"].verdict == "higher"  # not better
    assert "Classes" not in sentences


def test_observations_carry_the_right_figures(tmp_path):
    write_run(tmp_path, "EXP001", 0.7, validation_losses=(1.5, 1.0, 1.2, 1.4))
    write_run(tmp_path, "EXP002", 0.8, validation_losses=(1.5, 1.2, 1.0, 0.9))
    sentences = "\n".join(family(Journal(tmp_path), "architectures"))
    assert (
        "Overfitting. While the training loss falls, validation loss rises: EXP001 after epoch 2 (loss +40 %, "
        "accuracy +4.00 points)."
    ) in sentences
    assert "No overfitting shown: validation loss ends 0 % above its lowest in EXP002." in sentences


def test_of_several_seeds_the_one_whose_confusions_are_told_is_named(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "EXP003", 0.8, seed=seed)
    assert (
        "Most often confused: airplane and automobile, in EXP003 (seed 0: 20 and 0 images, 10 % of all its mistakes)."
    ) in "\n".join(family(Journal(tmp_path), "initialization"))


def test_what_overfits_in_some_seeds_is_not_said_to_show_no_overfitting(tmp_path):
    for seed, losses in enumerate([(1.5, 1.0, 3.0, 9.0), (1.5, 1.2, 1.0, 0.9), (1.5, 1.2, 1.0, 0.9)]):
        write_run(tmp_path, "EXP001", seed=seed, validation_losses=losses)
    write_run(tmp_path, "EXP002", validation_losses=(1.5, 1.2, 1.0, 0.9))
    sentences = "\n".join(family(Journal(tmp_path), "architectures"))
    assert "Overfitting. In some seeds only, at most half of them: EXP001." in sentences
    assert "No overfitting shown: validation loss ends 0 % above its lowest in EXP002." in sentences


def test_the_steadiest_loss_is_the_one_that_falls_not_the_one_that_jumps(tmp_path):
    write_run(tmp_path, "EXP001", validation_losses=(1.5, 1.2, 1.1, 1.0, 1.1, 1.0, 1.1, 1.0, 1.1, 1.0))
    write_run(tmp_path, "EXP002", validation_losses=(5.0, 2.5, 2.0, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1))
    jitter = Journal(tmp_path).means.loss_jitter
    assert jitter["EXP002"] == pytest.approx(np.std([-0.2, -0.1, -0.1, -0.1, -0.1, -0.1], ddof=1))
    assert jitter["EXP001"] == pytest.approx(np.std([0.1, -0.1] * 3, ddof=1))


def test_of_fewer_than_ten_epochs_nothing_is_said_of_how_steady_they_are(tmp_path):
    run = write_run(tmp_path, "EXP001", validation_losses=(1.5, *[1.2, 1.0] * 4))
    assert math.isnan(curve_measures(run)["loss_jitter"])


def test_what_several_experiments_share_is_said_once(tmp_path):
    write_run(tmp_path, "EXP001", 0.70)
    losses = {"EXP003": (1.5, 1.0, 1.2, 1.3), "EXP004": (1.5, 1.2, 1.0, 1.1), "EXP005": (1.5, 1.2, 1.0, 0.9)}
    for name, accuracy in {"EXP003": 0.702, "EXP004": 0.704, "EXP005": 0.8}.items():
        write_run(tmp_path, name, accuracy, validation_losses=losses[name])
    sentences = "\n".join(family(Journal(tmp_path), "initialization"))
    assert (
        "Of two trained models, no difference shown, in points: EXP003 against EXP001 "
        "+0.20 (\N{MINUS SIGN}0.14 to +0.54 over test images, p = 0.500, n = 1); EXP004 against EXP001 "
        "+0.40 (\N{MINUS SIGN}0.04 to +0.84 over test images, p = 0.250, n = 1). "
        "Of two trained models, higher, in points: EXP005 against EXP001 "
        "+10.00 (+8.11 to +11.85 over test images, p < 0.001, n = 1)."
    ) in sentences
    assert "rises: EXP003 after epoch 2 (loss +30 %" in sentences
    assert (  # one epoch may be noise
        "No overfitting shown: validation loss ends 10 % above its lowest in EXP004; 0 % above its lowest in EXP005."
    ) in sentences


def test_what_mirrored_test_images_gain_is_a_figure_of_each_run(tmp_path):
    record = write_run(tmp_path, "EXP029", 0.9, parameters={"test_time_flip": True})
    scored = record.test.model_copy(update={"accuracy_without_flip": 0.895})
    write_record(run_folder(tmp_path, "EXP029", 0), record.model_copy(update={"test": scored}))
    write_run(tmp_path, "EXP028", 0.895)
    assert Journal(tmp_path).means.views_gain["EXP029"] == pytest.approx(0.5)
    assert Journal(tmp_path).means.views_gain.isna()["EXP028"]


def test_images_a_second_are_known_where_a_training_took_time(tmp_path):
    run = write_run(tmp_path, "EXP003", 0.7)
    images = run.data.train_size * len(run.epochs)
    assert curve_measures(run)["images_per_second"] == pytest.approx(images / run.seconds.train)
    timeless = run.model_copy(update={"seconds": run.seconds.model_copy(update={"train": 0.0})})
    assert math.isnan(curve_measures(timeless)["images_per_second"])
    assert math.isnan(curve_measures(run.model_copy(update={"data": None}))["images_per_second"])


def test_a_validation_loss_of_zero_is_no_measure_of_a_rise(tmp_path):
    run = write_run(tmp_path, "EXP001", 0.7, validation_losses=(1.5, 0.0, 0.0, 0.1))
    measured = curve_measures(run)
    assert measured["lowest_loss"] == 0
    assert math.isnan(measured["loss_rise"])
    assert math.isnan(measured["overfits"])
    assert family(Journal(tmp_path), "architectures")  # and the observations are made


def test_figures_of_several_seeds_are_their_means(tmp_path):
    write_run(tmp_path, "EXP001", 0.7, seed=0, validation_losses=(1.5, 0.9, *[1.2] * 7, 1.35))
    write_run(tmp_path, "EXP001", 0.7, seed=1, validation_losses=(1.5, 1.3, 1.0, *[1.2] * 7))
    write_run(tmp_path, "EXP001", failed=ErrorRecord(type="X", message="m", cell=None, cell_source=None), seed=2)
    journal = Journal(tmp_path)
    means = journal.means.loc["EXP001"]
    assert means.loss_rise == pytest.approx((50 + 20) / 2)
    assert means.best_epoch == 2.5
    assert means.lowest_loss == pytest.approx(0.95)
    assert means.loss_jitter == pytest.approx(np.mean([jitter(r.epochs) for r in journal.results["EXP001"].runs]))
    assert means.overfits == 1
    assert "EXP001 after epoch 2.5 (loss +35 %" in "\n".join(family(journal, "architectures"))
    (tmp_path / "empty").mkdir()
    assert Journal(tmp_path / "empty").means.empty


def test_columns_of_a_run_are_read_off_its_curve(tmp_path):
    run = write_run(tmp_path, "EXP001", validation_losses=(1.5, 0.8, 0.9, 1.0))
    accuracies = [e.validation_accuracy for e in run.epochs]
    row = Journal(tmp_path).runs.iloc[0]
    assert row.loss_rise == pytest.approx(25)
    assert (row.lowest_loss, row.last_loss, row.best_epoch) == (0.8, 1.0, 2)
    assert row.first_accuracy == pytest.approx(100 * accuracies[0])
    assert row.highest_accuracy == pytest.approx(100 * max(accuracies))
    assert row.last_accuracy == pytest.approx(100 * accuracies[-1])
    assert row.gain_after_lowest_loss == pytest.approx(100 * (accuracies[-1] - accuracies[1]))
    assert row.images_per_second == pytest.approx(50_000 * 4 / run.seconds.train)
    assert np.isnan(row.loss_jitter)  # four epochs are too few


def test_jitter_of_a_straight_line_is_zero(tmp_path):
    run = write_run(tmp_path, "EXP001", validation_losses=(1.5, 1.25, 1.0, 0.75))
    assert jitter(run.epochs) == pytest.approx(0)


@pytest.mark.parametrize(
    ("changes", "caveat"),
    [
        ({}, None),
        ({"EXP017": {"epochs": 3}}, "epochs is 20 and 3"),
        ({"EXP017": {"image_size": 64}}, "image_size is 32 and 64"),
        ({"EXP017": {"image_size": 32}}, "image_size is 32 in both"),
        ({"EXP011": {"lr": 0.1}, "EXP017": {"lr": 0.1}}, None),
        ({"EXP011": {"train_limit": 500}}, "train_limit is 500 and null"),
        ({"EXP011": {"test_limit": 500}}, None),
    ],
)
def test_a_comparison_is_unlike_where_more_differs_than_the_experiments_do(tmp_path, changes, caveat):
    for name in ("EXP011", "EXP017"):
        parameters = changes.get(name, {})
        write_run(tmp_path, name, 0.7, parameters=parameters, train_size=parameters.get("train_limit", 50_000))
    always = "images of 224 pixels and fewer epochs"  # as journal.yaml says of the experiment
    found = Journal(tmp_path).comparisons["EXP017"]
    assert found.caveat == "; ".join(filter(None, (caveat, always)))
    assert found.verdict == "no difference shown"  # never better, or open
    assert found.seeds == 1


def test_seeds_with_other_parameters_are_left_out_and_named(tmp_path):
    write_run(tmp_path, "EXP003", seed=0)
    write_run(tmp_path, "EXP003", seed=1, parameters={"epochs": 3})
    journal = Journal(tmp_path)
    result = journal.results["EXP003"]
    assert ([run.seed for run in result.runs], [run.seed for run in result.left_out]) == ([0], [1])
    assert "<strong>Left out</strong>" in sections.banner(journal, "full").html


def test_seeds_on_other_data_or_weights_are_left_out(tmp_path):
    for seed, changes in enumerate([{}, {"data": "12" * 32}, {"weights": None}]):
        record = write_run(tmp_path, "EXP011", seed=seed)
        assert record.data is not None
        if "data" in changes:
            data = record.data.model_copy(update={"sha256": changes["data"]})
            record = record.model_copy(update={"data": data})
        if "weights" in changes:
            record = record.model_copy(update={"weights": None})
        write_record(run_folder(tmp_path, "EXP011", seed), record)
    result = Journal(tmp_path).results["EXP011"]
    assert ([run.seed for run in result.runs], [run.seed for run in result.left_out]) == ([0], [1, 2])


def test_damaged_predictions_are_not_compared(tmp_path):
    write_run(tmp_path, "EXP001")
    write_run(tmp_path, "EXP003")
    (tmp_path / "runs" / "exp003" / "seed-0" / "predictions.npz").write_bytes(b"PK")
    assert Journal(tmp_path).comparisons == {}


def test_experiments_of_ones_own_are_in_the_family_that_ran_them(tmp_path):
    run = write_run(tmp_path, "EXP003")
    folder = tmp_path / "runs" / "mine" / "seed-0"
    write_record(folder, run.model_copy(update={"experiment": "MINE"}))
    journal = Journal(tmp_path)
    assert [r.experiment for r in journal.family_runs("initialization")] == ["EXP003", "MINE"]
    assert not at_full_budget(journal.results["MINE"].runs[0])


def test_an_experiment_of_another_clone_keeps_its_title_and_what_it_builds_on(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path, "EXP003", 0.7 + seed / 100, seed=seed)
        run = write_run(tmp_path, "EXP004", 0.8 + seed / 100, seed=seed)
        own = {"experiment": "EXP100", "title": "LeNet, twice the rate", "builds_on": "EXP003"}
        write_record(tmp_path / "runs" / "exp100" / f"seed-{seed}", run.model_copy(update=own))
    shutil.copy(
        run_folder(tmp_path, "EXP004", 0) / "predictions.npz",
        tmp_path / "runs" / "exp100" / "seed-0" / "predictions.npz",
    )
    journal = Journal(tmp_path)
    assert journal.results["EXP100"].entry.title == "LeNet, twice the rate"
    assert journal.comparisons["EXP100"].base == "EXP003"
    assert "EXP100" in Journal(tmp_path, ["EXP003"]).results


def test_a_run_of_an_unknown_family_stops_no_report_and_is_named(tmp_path):
    run = write_run(tmp_path, "EXP003")
    for folder in ("mine", "yours"):
        family = "initialization" if folder == "mine" else "of somebody else"
        write_record(
            tmp_path / "runs" / folder / "seed-0",
            run.model_copy(update={"experiment": folder.upper(), "family": family}),
        )
    journal = Journal(tmp_path)
    assert list(journal.complete) == ["EXP003", "MINE"]
    assert journal.foreign == ("YOURS",)
    assert "YOURS, of families that the journal does not have" in sections.banner(journal, "full").html


def test_seeds_of_several_versions_of_torch_or_devices_are_pooled_with_a_note(tmp_path):
    for name in ("EXP000", "EXP001"):
        write_run(tmp_path, name, 0.64, seed=0)
        run = write_run(tmp_path, name, 0.65, seed=1)
    assert not Journal(tmp_path).results["EXP001"].mixed_environment
    assert run.environment is not None
    for change in ({"torch": "2.0.0"}, {"device": "cuda:0"}):
        environment = run.environment.model_copy(update=change)
        write_record(run_folder(tmp_path, "EXP001", 1), run.model_copy(update={"environment": environment}))
        journal = Journal(tmp_path)
        assert journal.results["EXP001"].mixed_environment
        assert "are pooled in EXP001" in sections.banner(journal, "full").html
        (finding,) = (f for f in findings(journal) if list(f.statement.contrasts) == ["EXP001 > EXP000"])
        assert "the seeds of EXP001 used different versions of torch or devices" in finding.reason


def test_predictions_tell_confidence_classes_and_mistakes(tmp_path):
    write_run(tmp_path, "EXP003", 0.7)
    result = Journal(tmp_path).results["EXP003"]
    predictions = result.predictions(result.runs[0])
    assert predictions is not None
    assert predictions.confidence == pytest.approx(np.exp(1) / (np.exp(1) + 9))  # logits 1 and nine times 0
    counts = predictions.confusion_matrix()
    assert np.diag(counts).tolist() == [70] * 10
    assert counts[3, 4] == 30  # records mistake each class for the next
    assert counts.sum() == 1000
    wrong = predictions.confident_mistakes(10)
    assert len(wrong) == 10
    assert not predictions.correct[wrong].any()


def history(folder, experiment, **columns):
    """Put other values into a written run's epochs."""
    record = read_record(run_folder(folder, experiment, 0))
    assert record is not None
    epochs = [e.model_copy(update={k: v[i] for k, v in columns.items()}) for i, e in enumerate(record.epochs)]
    write_record(run_folder(folder, experiment, 0), record.model_copy(update={"epochs": epochs}))


def test_a_rising_loss_is_overfitting_only_while_the_training_loss_falls(tmp_path):
    write_run(tmp_path, "EXP001", validation_losses=(1.5, 1.0, 1.2, 1.4))
    history(tmp_path, "EXP001", train_loss=(1.5, 1.0, 1.1, 1.3))
    sentences = "\n".join(family(Journal(tmp_path), "architectures"))
    assert "While the training loss falls" not in sentences
    assert "No overfitting shown: validation loss ends 40 % above its lowest in EXP001." in sentences


def test_a_curve_has_flattened_where_its_highest_rises_no_more(tmp_path):
    write_run(tmp_path, "EXP001", validation_losses=(1.0,) * 5)
    for accuracies, epoch in (
        ((0.60, 0.72, 0.50, 0.55, 0.725), 2),
        ((0.60, 0.72, 0.50, 0.55, 0.74), 5),
        ((0.60, 0.72, 0.50, 0.76, 0.45), 4),
    ):
        history(tmp_path, "EXP001", validation_accuracy=accuracies)
        assert Journal(tmp_path).means.epochs_to_plateau["EXP001"] == epoch


def test_equivalence_is_tested_within_the_journals_margin(tmp_path):
    for name, accuracies in (("EXP001", (0.700, 0.706, 0.703)), ("EXP003", (0.705, 0.701, 0.707))):
        for seed, accuracy in enumerate(accuracies):
            write_run(tmp_path, name, accuracy, seed=seed)
    journal = Journal(tmp_path)
    found = contrast(["EXP003"], ["EXP001"], journal.accuracies, journal.accuracy_spreads, journal.kinds)
    assert load_catalog().margin == 1
    assert journal.comparisons["EXP003"].p_equivalent == pytest.approx(found.p_equivalent(0.01))


def test_no_run_is_expected_above_all_images(tmp_path):
    for seed, accuracy in enumerate((0.9, 1.0)):
        write_run(tmp_path, "EXP001", accuracy, seed=seed)
    assert Journal(tmp_path).reproduction("EXP001").interval[1] == 1.0


def test_a_model_that_guesses_is_said_to_and_no_more(tmp_path):
    write_run(tmp_path, "EXP001", 0.7)
    write_run(tmp_path, "EXP002", 0.11)
    sentences = "\n".join(text for text in family(Journal(tmp_path), "architectures") if "EXP002" in text)
    assert ("EXP002 is not shown to be above chance (10 %): its interval over the test images is 9.2 %") in sentences
    assert "validation loss" not in sentences
    assert "confused" not in sentences


def test_chance_is_what_the_largest_class_gives(tmp_path):
    """Of 1,000 images 400 are of one class: 0.42 is no more than naming it always, whatever the number of classes."""
    for name, accuracy in (("EXP001", 0.7), ("EXP002", 0.42)):
        folder = run_folder(tmp_path, name, 0)
        write_run(tmp_path, name, accuracy)
        labels = np.where(np.arange(1000) % 10 < 4, 0, LABELS).astype(np.uint8)
        predicted = np.where(np.arange(1000) < 1000 * accuracy, labels, labels + 1).astype(np.uint8)
        logits, index = np.eye(11, dtype=np.float16)[predicted], np.arange(1000)
        np.savez(folder / "predictions.npz", logits=logits, labels=labels, predicted=predicted, index=index)
    sentences = "\n".join(family(Journal(tmp_path), "architectures"))
    assert "EXP002 is not shown to be above chance (40 %): its interval over the test images is 39.0 %" in sentences
    assert "EXP001 is not shown" not in sentences


def test_a_repetition_is_called_one(tmp_path):
    write_run(tmp_path, "EXP003")
    write_run(tmp_path, "EXP009")
    sentences = "\n".join(family(Journal(tmp_path), "optimizers"))
    assert "The same parameters, in points: EXP009 against EXP003 +0.00 (n = 1)." in sentences


def test_epochs_of_unlike_work_are_not_compared(tmp_path):
    write_run(tmp_path, "EXP001")
    write_run(tmp_path, "EXP002", train_size=5000)
    sentences = "\n".join(family(Journal(tmp_path), "architectures"))
    assert "Convergence" not in sentences


def write_classes(output, experiment, seed, right):
    """A run that has `right` of the 100 images of the first classes right, and 50 of the others."""
    record = write_run(output, experiment, 0.5, seed=seed)
    labels, counts = np.arange(1000) % 10, np.array([*right, *[50] * (10 - len(right))])
    predicted = np.where(np.arange(1000) // 10 < counts[labels], labels, (labels + 1) % 10)
    np.savez(
        run_folder(output, experiment, seed) / "predictions.npz",
        **{"logits": np.eye(10)[predicted], "labels": labels, "predicted": predicted, "index": np.arange(1000)},
    )
    return record


def test_classes_gain_and_lose_over_seeds(tmp_path):
    before, after = [(50, 70, 60), (52, 71, 61), (54, 72, 60)], [(70, 40, 61), (71, 43, 60), (75, 43, 62)]
    for seed in range(3):
        write_classes(tmp_path, "EXP001", seed, before[seed])
        write_classes(tmp_path, "EXP003", seed, after[seed])
    write_run(tmp_path, "EXP000", index=np.arange(20))  # two test images a class: no matter to the others
    journal = Journal(tmp_path)
    (seen,) = (o for o in observe(journal.family_results("initialization"), journal) if o.topic == "Classes")
    p = [stats.ttest_ind(old, new).pvalue for old, new in zip(np.transpose(before), np.transpose(after), strict=True)]
    assert p[1] < p[0] < 0.005 < p[2]
    assert seen.text == (
        f"Against EXP001: EXP003 gains most in airplane (+20.0 points, {p_text(9 * p[0])}) and loses most in "
        f"automobile (−29.0 points, {p_text(10 * p[1])}). (t-tests over seeds, Holm-adjusted over the classes.)"
    )
    assert seen.shown_by == ("EXP003",)
    for path in tmp_path.glob("runs/exp003/*/predictions.npz"):
        path.unlink()
    journal = Journal(tmp_path)
    assert "Classes" not in {o.topic for o in observe(journal.family_results("initialization"), journal)}


def test_classes_change_only_where_a_test_says_so(tmp_path):
    for seed in range(3):
        write_classes(tmp_path, "EXP001", seed, (50 + 10 * seed,))
        write_classes(tmp_path, "EXP003", seed, (75 - 10 * seed,))
    journal = Journal(tmp_path)
    (seen,) = (o for o in observe(journal.family_results("initialization"), journal) if o.topic == "Classes")
    assert seen.text.startswith("No class is shown to gain or lose in EXP003.")


def test_classes_of_one_seed_each_are_not_compared(tmp_path):
    write_classes(tmp_path, "EXP001", 0, (50, 50))
    write_classes(tmp_path, "EXP003", 0, (95, 5))
    journal = Journal(tmp_path)
    assert "Classes" not in {o.topic for o in observe(journal.family_results("initialization"), journal)}


def test_observations_say_where_they_are_shown(tmp_path):
    write_run(tmp_path, "EXP001", 0.7)
    write_run(tmp_path, "EXP003", 0.8)
    journal = Journal(tmp_path)
    seen = observe(journal.family_results("initialization"), journal)
    (confused,) = (o for o in seen if o.topic == "Confusions")
    assert confused.text == (
        "Most often confused: airplane and automobile, in EXP003 (20 and 0 images, 10 % of all its mistakes)."
    )
    assert confused.shown_by == ("EXP003",)
    assert {name for o in seen for name in o.shown_by} >= {"ladder", "curves"}


def test_gap_is_that_of_the_last_epoch(tmp_path):
    write_run(tmp_path, "EXP001", 0.7, validation_losses=(1.5, 1.0, 1.2, 1.4))
    assert Journal(tmp_path).means.loc["EXP001"].gap == pytest.approx(10)  # 80 % in training, 70 % in validation


@pytest.mark.parametrize(
    ("accuracy", "word"),
    [(0.757, "agrees"), (0.9, "ours is above"), (0.6, "ours is below"), (None, "too wide to tell")],
)
def test_the_originals_accuracy_is_judged_at_full_budget_only(tmp_path, accuracy, word):
    for seed in (0, 1, 2):
        write_run(tmp_path, "EXP003", 0.7 + seed / 20 if accuracy is None else accuracy + seed / 1000, seed=seed)
    found = Journal(tmp_path).reproduction("EXP003")
    assert (found.answer, found.borrowed) == (word, False)
    assert found.verdict == ("reproduced" if word == "agrees" else word)
    if accuracy:
        half = stats.t.ppf(0.975, 2) * 0.001 * (1 + 1 / 3) ** 0.5
        assert found.interval == pytest.approx((accuracy + 0.001 - half, accuracy + 0.001 + half))
    write_run(tmp_path, "EXP003", 0.7, parameters={"epochs": 3})
    for seed in (1, 2):
        (run_folder(tmp_path, "EXP003", seed) / "run.json").unlink()
    assert Journal(tmp_path).reproduction("EXP003") is None


def test_a_figure_outside_a_wide_interval_does_not_agree(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path, "EXP003", 0.9 + seed / 50, seed=seed)
    found = Journal(tmp_path).reproduction("EXP003")
    low, high = found.interval
    assert high - low > 2 * WIDE
    assert found.answer == "ours is above"


def test_experiments_may_be_named_in_small_letters(tmp_path):
    own = write_run(tmp_path, "EXP003").model_copy(update={"experiment": "MINE1"})
    folder = run_folder(tmp_path, "MINE1", 0)
    shutil.copytree(run_folder(tmp_path, "EXP003", 0), folder)
    write_record(folder, own)
    assert [*Journal(tmp_path, ["exp3", "mine1"]).complete] == ["EXP003", "MINE1"]


def test_each_report_of_a_kernel_numbers_its_figures_from_one(tmp_path):
    write_run(tmp_path, "EXP003")
    for _ in range(2):
        sections.banner(Journal(tmp_path), "full")
        assert "Table 1." in sections.results_at_a_glance(Journal(tmp_path)).html


def test_one_run_borrows_the_spread_of_its_network_or_says_that_it_is_unknown(tmp_path):
    write_run(tmp_path, "EXP003", 0.757)
    assert Journal(tmp_path).reproduction("EXP003").answer == "spread unknown"
    for seed in (0, 1, 2):
        write_run(tmp_path, "EXP000", 0.7 + seed / 1000, seed=seed)  # another network
    assert Journal(tmp_path).reproduction("EXP003").answer == "spread unknown"
    for seed in (0, 1, 2):
        write_run(tmp_path, "EXP004", 0.7 + seed / 1000, seed=seed)
    found = Journal(tmp_path).reproduction("EXP003")
    assert (found.answer, found.borrowed) == ("agrees", True)


def test_substitutes_of_data_weights_and_precision_keep_a_figure_from_being_reproduced(tmp_path):
    for seed in (0, 1):
        record = write_run(tmp_path, "EXP011", 0.8226 + seed / 1000, seed=seed)
        changes = {
            "data": record.data.model_copy(update={"source": "unofficial copy", "provenance": "copy"}),
            "weights": record.weights.model_copy(update={"source": "local file", "provenance": "local file"}),
            "precision": "bfloat16",
        }
        write_record(run_folder(tmp_path, "EXP011", seed), record.model_copy(update=changes))
    found = Journal(tmp_path).reproduction("EXP011")
    assert found.verdict == "agrees"
    assert found.substitutes == ("copy of CIFAR-10", "weights from a local file", "bfloat16")


def test_the_command_that_reproduces_a_run_gives_its_parameters(tmp_path):
    from cifar_report.experiments.catalog import load_experiment, parse_overrides

    changed = {"epochs": 3, "lr": 0.02, "augment": ["horizontal_flip", "crop"], "label_smoothing": 0.1}
    run = write_run(tmp_path, "EXP003", seed=4, parameters=changed)
    command = reproduce_command([run], load_catalog().family_named("initialization"))
    words = shlex.split(command)
    assert words[:7] == ["cifar-report", "run", "EXP003", "--profile", words[4], "--seeds", "4"]
    assert words[-2:] == ["--output", "outputs/again"]  # where they replace no run of the profile
    overrides = {**parse_overrides(words[8:-2]), "seed": 4}
    again = load_experiment("EXP003", profile=words[4], overrides=overrides)
    assert again.result_parameters() == run.parameters
    mine = run.model_copy(update={"experiment": "MINE", "parameters": {**run.parameters, "experiment": "MINE"}})
    command = reproduce_command([mine], load_catalog().family_named("initialization"))
    assert command.startswith("papermill notebooks/02_initialization.ipynb out.ipynb -p experiment MINE -p seed 4 ")
    plain = write_run(tmp_path, "EXP003", parameters={"init": "default"})  # the schema's default, not the notebook's
    mine = plain.model_copy(update={"experiment": "MINE", "parameters": {**plain.parameters, "experiment": "MINE"}})
    assert "-p init default" in reproduce_command([mine], load_catalog().family_named("initialization"))


def test_one_command_reproduces_all_seeds_and_folds(tmp_path):
    family = load_catalog().family_named("initialization")
    runs = [write_run(tmp_path, "EXP003", seed=seed) for seed in (0, 2)]
    assert reproduce_command(runs, family) == "cifar-report run EXP003 --profile full --seeds 0,2"
    many = [write_run(tmp_path, "EXP003", seed=seed) for seed in (8, 9, 10, 4)]
    assert reproduce_command(many, family).endswith("--seeds 4,8-10")
    folds = [write_run(tmp_path, "EXP003", parameters={"validation": "fold", "folds": 2, "fold": f}) for f in (0, 1)]
    assert reproduce_command(folds, family).endswith("--set 'validation=fold folds=2' --output outputs/again")
    assert "fold=1" in reproduce_command(folds[1:], family)


def test_a_caveat_belongs_to_one_pair_of_experiments_in_either_order(tmp_path):
    for name in ("EXP021", "EXP022", "EXP003"):
        write_run(tmp_path, name, 0.7)
    journal = Journal(tmp_path)
    own, base, other = (journal.results[name] for name in ("EXP021", "EXP003", "EXP022"))
    assert own.entry.caveat in compare(own, base, journal).caveat
    assert own.entry.caveat in compare(base, own, journal).caveat
    assert own.entry.caveat not in (compare(own, other, journal).caveat or "")


def test_folds_are_paired_with_their_like(tmp_path):
    for name, folds in (("EXP003", (0, 1, 2)), ("EXP004", (0, 1))):
        for fold in folds:
            run = write_run(tmp_path, name, 0.7, parameters={"validation": "fold", "folds": 3, "fold": fold})
            write_record(run_folder(tmp_path, name, 0, fold=fold, folds=3), run)
            shutil.copy(
                run_folder(tmp_path, name, 0) / "predictions.npz", run_folder(tmp_path, name, 0, fold=fold, folds=3)
            )
        shutil.rmtree(run_folder(tmp_path, name, 0))
    journal = Journal(tmp_path)
    found = compare(journal.results["EXP004"], journal.results["EXP003"], journal)
    assert "fold" not in found.changed


def test_the_spread_of_one_kind_does_not_depend_on_anothers_test_images(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "EXP003", 0.7, seed=seed, index=np.arange(100))
    before = Journal(tmp_path).accuracy_spreads["EXP003"]
    write_run(tmp_path, "EXP000", 0.6)
    assert Journal(tmp_path).accuracy_spreads["EXP003"] == before
    assert before.total == pytest.approx(0.01)


def test_what_an_experiment_of_ones_own_changes_makes_no_comparison_unlike(tmp_path):
    base = write_run(tmp_path, "EXP003", 0.7)
    changed = {**base.parameters, "experiment": "MINE", "lr": 0.02}
    mine = base.model_copy(update={"experiment": "MINE", "parameters": changed})
    assert unlike_because(base, mine) is None
    assert unlike_because(mine, base) is None
    assert unlike_because(
        base, mine.model_copy(update={"weights": None, "parameters": {**changed, "weights": "imagenet"}})
    )


def test_a_sweep_with_fewer_images_is_less_work(tmp_path):
    def named(name, **parameters):
        return write_run(tmp_path, "EXP003", parameters=parameters).model_copy(update={"experiment": name})

    run = named("EXP003-LR-0_02", lr=0.02, momentum=0.5, epochs=3)
    assert changed_parameters(run) == {"momentum": (0.9, 0.5), "epochs": (20, 3)}
    assert less_work(run)
    assert altered_parameters(run) == {"momentum": (0.9, 0.5)}
    assert not less_work(named("EXP003-LR-0_03", lr=0.03))
    assert changed_parameters(named("EXP003-MINE", lr=0.03)) == {}


def test_the_precision_counts_where_it_is_recorded(tmp_path):
    run = write_run(tmp_path, "EXP003", 0.7)
    assert changed_parameters(run.model_copy(update={"precision": "bfloat16"})) == {
        "precision": ("float32", "bfloat16")
    }
    old = run.model_copy(update={"precision": None, "parameters": {**run.parameters, "precision": "auto"}})
    assert changed_parameters(old) == {}


def test_experiments_without_a_common_seed_are_compared_on_their_spread(tmp_path):
    for seed, accuracy in enumerate((0.70, 0.72, 0.74)):
        write_run(tmp_path, "EXP001", accuracy, seed=seed)
        write_run(tmp_path, "EXP003", accuracy + 0.1, seed=seed + 5)
    found = Journal(tmp_path).comparisons["EXP003"]
    assert found.difference == pytest.approx(0.1)
    assert "independent, n = 3 seeds" in found.test
    assert found.caveat is None
    write_run(tmp_path / "single", "EXP001", 0.7, seed=0)
    write_run(tmp_path / "single", "EXP003", 0.8, seed=1)
    assert "EXP003" not in Journal(tmp_path / "single").comparisons  # one model each, of different seeds


def test_a_journal_of_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(RequestError, match="there is no folder"):
        Journal(tmp_path / "misspelt")
    assert Journal(tmp_path).runs.empty


def test_p_text():
    assert p_text(0.0004) == "p < 0.001"
    assert p_text(0.0234) == "p = 0.023"
    assert p_text(0.04996) == "p < 0.050"
    assert p_text(0.05001) == "p = 0.050"


def test_full_budget_is_recognised(tmp_path):
    run = write_run(tmp_path, "EXP003", seed=5)
    assert at_full_budget(run)
    assert not at_full_budget(run.model_copy(update={"parameters": {**run.parameters, "epochs": 3}}))
    assert not at_full_budget(write_run(tmp_path, "EXP011", lacks_weights=True))
    assert at_full_budget(write_run(tmp_path, "EXP011"))


def test_runs_and_epochs_are_frames_to_go_on_with(tmp_path):
    losses = (1.5, 1.0, 1.2, 1.4)
    for seed, accuracy in ((0, 0.7), (1, 0.74)):
        write_run(tmp_path, "EXP003", accuracy, seed=seed, validation_losses=losses, parameters={"lr": 0.02})
    write_run(tmp_path, "EXP004", failed=ErrorRecord(type="X", message="m", cell=None, cell_source=None))
    journal = Journal(tmp_path)
    complete = journal.runs[journal.runs.status == "completed"]
    assert complete.groupby(["experiment", "lr", "init"]).accuracy.mean().to_dict() == {
        ("EXP003", 0.02, "xavier_uniform"): pytest.approx(72)
    }
    assert journal.runs.set_index("experiment").loc["EXP004", "error"] == "X: m"
    assert journal.epochs.groupby("seed").validation_loss.min().to_dict() == {0: 1.0, 1: 1.0}
    assert journal.epochs.validation_accuracy.max() == pytest.approx(74)
    assert list(journal.epochs.columns[:3]) == ["experiment", "seed", "fold"]
    (tmp_path / "empty").mkdir()
    assert Journal(tmp_path / "empty").epochs.empty
    assert Journal(tmp_path / "empty").runs.empty


def test_results_frame_has_a_row_a_run(tmp_path):
    write_run(tmp_path, "EXP001", 0.7)
    write_run(tmp_path, "EXP003", 0.76)
    write_run(tmp_path, "EXP004", failed=ErrorRecord(type="X", message="m", cell=None, cell_source=None))
    frame = results_frame(Journal(tmp_path)).set_index("experiment")
    assert frame.loc["EXP001", "accuracy"] == 70
    assert frame.loc["EXP003", "difference"] == pytest.approx(6)
    assert frame.loc["EXP003", "verdict"] == "higher"
    assert frame.loc["EXP004", "error"] == "X: m"


def test_experiments_of_the_same_parameters_count_once_in_their_spread(tmp_path):
    for seed, accuracy in enumerate((0.70, 0.72, 0.74)):
        for name in ("EXP003", "EXP004"):
            write_run(tmp_path, name, accuracy if name == "EXP003" else accuracy - 0.01, seed=seed)
    alone = Journal(tmp_path).accuracy_spreads["EXP003"]
    for seed in range(3):
        record = read_record(run_folder(tmp_path, "EXP003", seed))
        folder, name = tmp_path / "runs" / "exp003-lr-0_01" / f"seed-{seed}", {"experiment": "EXP003-LR-0_01"}
        shutil.copytree(run_folder(tmp_path, "EXP003", seed), folder)
        write_record(folder, record.model_copy(update={**name, "parameters": record.parameters | name}))
    assert Journal(tmp_path).accuracy_spreads["EXP003"] == alone


def test_a_family_without_records_is_an_empty_table(tmp_path):
    assert family_frame(Journal(tmp_path), "baseline").empty


def test_experiments_of_different_versions_of_the_code_are_not_ranked(tmp_path, monkeypatch):
    for name in ("EXP003", "EXP007"):
        write_run(tmp_path, name, 0.74, seed=0)
        write_run(tmp_path, name, 0.75, seed=1)
    for current, caveat in (
        ({"EXP003", "EXP007"}, None),
        ({"EXP007"}, "EXP003 was trained by another version of the code"),
        (set(), None),  # by the same or not: nothing is known, and the report's head says so
    ):
        monkeypatch.setattr(
            "cifar_report.journal.journal.is_of_this_code", lambda folder, run, of=current: run.experiment in of
        )
        journal = Journal(tmp_path)
        assert journal.comparisons["EXP007"].caveat == caveat
        assert [caveat] == [*_caveats(journal, ["EXP003", "EXP007"]), None][:1]


def test_a_limit_above_the_number_of_images_makes_no_difference(tmp_path):
    one = write_run(tmp_path, "EXP003", parameters={"train_limit": 5000}, train_size=144)
    other = write_run(tmp_path, "EXP007", parameters={"train_limit": 2000}, train_size=144)
    assert unlike_because(one, other) is None
    fewer = write_run(tmp_path, "EXP007", parameters={"train_limit": 100}, train_size=100)
    assert unlike_because(one, fewer) == "train_limit is 5000 and 100"


def test_an_empty_journal_has_the_columns_to_ask_for(tmp_path):
    runs = Journal(tmp_path).runs
    assert runs.empty
    assert runs[runs.experiment == "EXP003"].accuracy.empty
