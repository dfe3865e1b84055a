"""Comparing two sets of results: folders, reports, experiments."""

import shutil

import numpy as np
import pytest
from records import write_run
from scipy import stats

from cifar_report.cli import main
from cifar_report.experiments.errors import RequestError
from cifar_report.journal.diff import Side, changes, compare_experiments, read_side
from cifar_report.journal.frames import results_frame
from cifar_report.journal.journal import Journal
from cifar_report.journal.statistics import mcnemar
from cifar_report.records.record import ErrorRecord, run_folder, write_record


def test_two_folders_differ_run_by_run(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    write_run(old, "EXP001", 0.70)
    write_run(new, "EXP001", 0.70)  # the same
    write_run(old, "EXP003", 0.70)
    write_run(new, "EXP003", 0.76, lucky=40, parameters={"lr": 0.02})
    write_run(old, "EXP004", 0.70)
    write_run(new, "EXP004", failed=ErrorRecord(type="X", message="m", cell=None, cell_source=None))
    write_run(old, "EXP005")
    write_run(new, "EXP006")
    found = {c.name: c for c in changes(read_side(str(old)), read_side(str(new)))}
    assert {name: c.what for name, c in found.items()} == {
        "EXP003 seed 0": "other parameters",
        "EXP004 seed 0": "failed now",
        "EXP005 seed 0": "gone",
        "EXP006 seed 0": "new",
    }
    changed = found["EXP003 seed 0"]
    assert changed.parameters == {"lr": (0.01, 0.02)}
    assert changed.difference == pytest.approx(0.06)
    assert changed.p == mcnemar(np.arange(1000) < 700, (np.arange(1000) - 40) % 1000 < 760)  # the only one tested
    assert changed.verdict == "higher"  # of two trained models, not better of methods
    assert found["EXP004 seed 0"].difference is None


def test_difference_is_that_of_the_images_tested(tmp_path):
    """On the first 500 images both are right everywhere; the whole test set says otherwise of one of them."""
    write_run(tmp_path / "old", "EXP003", 0.70)
    write_run(tmp_path / "new", "EXP003", 0.60, index=np.arange(500), parameters={"test_limit": 500})
    (change,) = changes(*(read_side(str(tmp_path / name)) for name in ("old", "new")))
    assert (change.before, change.after) == (0.7, 1.0)
    assert change.difference == 0
    assert change.verdict == "no difference shown"


def test_images_in_another_order_are_not_paired(tmp_path):
    for side, accuracy in (("old", 0.7), ("new", 0.6)):
        write_run(tmp_path / side, "EXP003", accuracy)
    stored = run_folder(tmp_path / "new", "EXP003", 0) / "predictions.npz"
    with np.load(stored) as content:
        other = {name: content[name] if name == "index" else content[name][::-1] for name in content.files}
    np.savez(stored, **other)
    (change,) = changes(*(read_side(str(tmp_path / name)) for name in ("old", "new")))
    assert change.test == "Fisher's exact test on the counts"


def test_records_older_than_a_parameter_have_its_default(tmp_path):
    run = write_run(tmp_path / "old", "EXP003")
    older = {name: value for name, value in run.parameters.items() if name != "compile"}
    write_record(run_folder(tmp_path / "old", "EXP003", 0), run.model_copy(update={"parameters": older}))
    write_run(tmp_path / "new", "EXP003", 0.8)
    (change,) = changes(*(read_side(str(tmp_path / name)) for name in ("old", "new")))
    assert change.parameters == {}
    write_run(tmp_path / "old", "EXP003", seed=1)
    assert len(Journal(tmp_path / "old").results["EXP003"].runs) == 2
    for seed in (0, 1):
        write_run(tmp_path / "old", "EXP001", seed=seed)
    comparison = Journal(tmp_path / "old").comparisons["EXP003"]
    assert comparison.caveat is None


def test_runs_of_earlier_settings_are_said_to_be_left_out(tmp_path, capsys):
    for side in ("old", "new"):
        write_run(tmp_path / side, "EXP003", 0.70, seed=1)
    earlier = write_run(tmp_path / "old", "EXP003", 0.60, parameters={"lr": 0.02})
    earlier = earlier.model_copy(update={"finished_at": "2025-01-01T00:00:00+00:00"})
    write_record(run_folder(tmp_path / "old", "EXP003", 0), earlier)
    assert main(["diff", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    assert "0 differences between 1 and 1 runs" in (told := capsys.readouterr().out)
    assert "not compared: 1 and 0 runs of earlier settings" in told


def test_reports_are_compared_by_their_counts(tmp_path):
    for name, accuracy in (("old", 0.70), ("new", 0.75)):
        write_run(tmp_path / name, "EXP003", accuracy)
        results_frame(Journal(tmp_path / name)).to_csv(tmp_path / f"{name}.csv", index=False)
    sides = [read_side(str(tmp_path / f"{name}.csv")) for name in ("old", "new")]
    (change,) = changes(*sides)
    assert change.what == "run again"
    assert change.p == stats.fisher_exact([[700, 300], [750, 250]]).pvalue
    assert "Fisher" in change.test


def test_two_experiments_are_compared_as_in_the_report(tmp_path):
    for seed, (first, second) in enumerate([(0.70, 0.76), (0.73, 0.70), (0.69, 0.75)]):
        write_run(tmp_path, "EXP001", first, seed=seed)
        write_run(tmp_path, "EXP003", second, seed=seed)
    found = compare_experiments("exp001", "EXP003", tmp_path)
    comparison = Journal(tmp_path).comparisons["EXP003"]
    assert (found.p, found.difference, found.verdict) == (comparison.p, comparison.difference, "open (needs n = 127)")
    assert found.p == pytest.approx(stats.ttest_ind([0.76, 0.70, 0.75], [0.70, 0.73, 0.69]).pvalue)
    assert (found.before, found.after) == pytest.approx((0.7067, 0.7367), abs=1e-4)
    assert found.name == "EXP003 against EXP001"
    assert found.parameters == {"init": ("default", "xavier_uniform")}
    other_way = compare_experiments("EXP003", "EXP001", tmp_path)
    assert other_way.difference == pytest.approx(-comparison.difference)


def test_single_runs_are_two_trained_models_on_the_images_that_both_were_tested_on(tmp_path):
    write_run(tmp_path, "EXP003", 0.5)
    write_run(tmp_path, "EXP004", 0.5, index=np.arange(400), parameters={"test_limit": 400})
    found = compare_experiments("EXP003", "EXP004", tmp_path)
    assert (found.before, found.after) == (0.5, 1.0)
    assert (found.difference, found.verdict) == (0.0, "no difference shown")
    write_run(tmp_path, "EXP005", seed=7)
    with pytest.raises(RequestError, match="no images or predictions in common"):
        compare_experiments("EXP003", "EXP005", tmp_path)
    with pytest.raises(RequestError, match="no complete run of EXP007"):
        compare_experiments("EXP003", "EXP007", tmp_path)
    with pytest.raises(RequestError, match="exp003 cannot be compared with itself"):
        compare_experiments("exp003", "EXP003", tmp_path)


def test_what_makes_experiments_unlike_is_said(tmp_path):
    write_run(tmp_path, "EXP003", 0.7)
    write_run(tmp_path, "EXP004", 0.9, train_size=1000)
    found = compare_experiments("EXP003", "EXP004", tmp_path)
    assert found.what == "not directly comparable: trained on 50,000 and 1,000 images"


def test_p_values_are_adjusted_for_their_number(tmp_path):
    for name in ("EXP001", "EXP003"):
        write_run(tmp_path / "old", name, 0.70)
        write_run(tmp_path / "new", name, 0.706)  # six images gained: p = 2 / 2**6 alone
    found = changes(read_side(str(tmp_path / "old")), read_side(str(tmp_path / "new")))
    assert [c.p for c in found] == pytest.approx([2 * 2 / 2**6] * 2)
    assert {c.verdict for c in found} == {"no difference shown"}


def test_other_figures_that_differ_and_why_there_is_no_test_are_told(tmp_path):
    write_run(tmp_path / "old", "EXP003", validation_losses=(1.5, 1.0, 1.2, 1.4))
    new = write_run(tmp_path / "new", "EXP003", 0.8, validation_losses=(1.5, 1.0, 0.9, 1.4))
    old, now = (read_side(str(tmp_path / name)) for name in ("old", "new"))
    assert changes(old, now)[0].metrics == {"best_epoch": (2, 3)}
    rounded = {pair: {**row, "test_loss": row["test_loss"] + 1e-9, "key": "another"} for pair, row in old.rows.items()}
    assert changes(old, Side(rounded))[0].metrics == {}
    assert new.data is not None
    digits = new.model_copy(update={"data": new.data.model_copy(update={"name": "digits"})})
    write_record(run_folder(tmp_path / "new", "EXP003", 0), digits)
    (change,) = changes(old, read_side(str(tmp_path / "new")))
    assert (change.p, change.test) == (None, "not tested: on cifar10 and on digits")
    pictures = {pair: {**row, "dataset": "folder", "data_sha256": "another"} for pair, row in old.rows.items()}
    mine = {pair: {**row, "dataset": "folder", "key": "another"} for pair, row in old.rows.items()}
    assert changes(Side(mine), Side(pictures))[0].test == "not tested: on different pictures"


def test_experiments_of_ones_own_and_pages_of_reports_can_be_named(tmp_path):
    run = write_run(tmp_path, "EXP003")
    write_run(tmp_path, "EXP004", 0.8)
    shutil.copytree(run_folder(tmp_path, "EXP003", 0), tmp_path / "runs" / "mine" / "seed-0")
    write_record(tmp_path / "runs" / "mine" / "seed-0", run.model_copy(update={"experiment": "Mine"}))
    assert compare_experiments("EXP004", "mine", tmp_path).name == "Mine against EXP004"
    report = tmp_path / "report"
    report.mkdir()
    results_frame(Journal(tmp_path)).to_csv(report / "results.csv", index=False)
    assert len(read_side(str(report / "report.html")).rows) == 3


def test_what_is_nothing_is_refused(tmp_path):
    with pytest.raises(RequestError, match="neither an experiment, nor a folder"):
        read_side(str(tmp_path / "nowhere"))
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    with pytest.raises(RequestError, match="no run in"):
        read_side(str(tmp_path / "empty"))
    write_run(tmp_path, "EXP003")
    damaged = results_frame(Journal(tmp_path)).assign(test_images=0)
    damaged.to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(RequestError, match="is not a table of results"):
        read_side(str(tmp_path / "results.csv"))
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(RequestError, match="it has no column"):
        read_side(str(other))


def test_diff_on_the_command_line(tmp_path, capsys):
    write_run(tmp_path, "EXP003", 0.70)
    write_run(tmp_path, "EXP004", 0.76, lucky=40)
    assert main(["diff", "EXP003", "EXP004", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "init xavier_uniform -> xavier_normal" in out
    assert "+6.00" in out
    assert "higher, p < 0.001" in out
    assert main(["diff", str(tmp_path), str(tmp_path)]) == 0
    assert "0 differences between 2 and 2 runs" in capsys.readouterr().out
    assert main(["diff", "EXP003", str(tmp_path), "--output", str(tmp_path)]) == 2
    assert main(["diff", "EXP003", "EXP933", "--output", str(tmp_path)]) == 2


def test_diff_as_markdown_is_a_table_that_github_shows(tmp_path, capsys):
    folders = [tmp_path / name for name in ("a", "b|c")]
    for folder, accuracy in zip(folders, (0.70, 0.76), strict=True):
        write_run(folder, "EXP003", accuracy)
        write_run(folder, "EXP004", 0.7)
    assert main(["diff", *map(str, folders), "--markdown"]) == 0
    header, line, row, empty, note = capsys.readouterr().out.splitlines()
    assert header == "| run | what | before, % | after, % | points | test | other figures | parameters |"
    assert line == "|" + " --- |" * 8
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert cells[0] == "EXP003 seed 0"
    assert cells[2:5] == ["70.00", "76.00", "+6.00"]
    assert empty == ""
    assert note.startswith("1 difference between 2 and 2 runs")
    assert main(["diff", str(folders[0]), str(folders[0]), "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("0 differences between 2 and 2 runs")
