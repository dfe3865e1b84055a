"""Sweeps and folds: what overrides mean, and what a journal makes of their records."""

import shutil

import pytest
from PIL import Image
from records import write_run

from cifar_report.cli import main
from cifar_report.execution.plan import make_plan
from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.sweep import combinations, split_sweep_name, sweep_name
from cifar_report.journal.journal import Journal, sweeps
from cifar_report.journal.statistics import wilson_interval
from cifar_report.records.record import read_record, run_folder, write_record
from cifar_report.report.sections import banner, family_section, results_at_a_glance


@pytest.mark.parametrize(
    ("overrides", "swept"),
    [
        ({}, [{}]),
        ({"lr": "0.01"}, [{}]),
        ({"lr": "0.01,0.02", "epochs": "3"}, [{"lr": "0.01"}, {"lr": "0.02"}]),
        (
            {"lr": "0.01, 0.02", "momentum": "0,0.9"},
            [{"lr": a, "momentum": b} for a in ("0.01", "0.02") for b in ("0", "0.9")],
        ),
        ({"augment": "crop,rotation"}, [{}]),  # one list
        ({"augment": "[crop, rotation]"}, [{}]),
        ({"augment": "[crop],[crop,rotation],[]"}, [{"augment": a} for a in ("[crop]", "[crop,rotation]", "[]")]),
        ({"optimizer": "sgd,sgd"}, [{}]),
        ({"data_dir": "/a,b", "output_dir": "/c,d"}, [{}]),  # a comma in a path
        ({"validation": "fold", "folds": "5", "fold": "0,2"}, [{}, {}]),  # two folds of one experiment
    ],
)
def test_several_values_are_a_grid(overrides, swept):
    assert [own for own, _ in combinations(overrides)] == swept
    for own, given in combinations(overrides):
        assert given.keys() == overrides.keys()
        assert own.items() <= given.items()


def test_folds_without_one_are_all_of_them():
    found = combinations({"validation": "fold", "folds": "3"})
    assert [given["fold"] for _, given in found] == [0, 1, 2]
    assert [own for own, _ in found] == [{}] * 3
    assert len(combinations({"validation": "fold", "folds": "3", "fold": "1"})) == 1
    assert len(combinations({"validation": "fold", "folds": "0"})) == 1  # which the schema refuses


def test_a_sweeps_experiment_is_named_after_what_it_varies():
    name = sweep_name("EXP003", {"lr": 0.003, "weight_decay": 1e-5, "augment": ("crop", "horizontal_flip")})
    assert name == "EXP003-LR-0_003-WEIGHT_DECAY-1E_05-AUGMENT-CROP_HORIZONTAL_FLIP"
    assert split_sweep_name(name) == ("EXP003", ["lr", "weight_decay", "augment"])
    assert sweep_name("EXP003", {}) == "EXP003"
    with pytest.raises(RequestError, match="too many"):
        sweep_name("EXP003", dict.fromkeys(("label_smoothing", "weight_decay", "frozen_batchnorm"), 0.12345))


def test_a_value_is_named_as_it_is_read_and_no_two_runs_share_a_folder(tmp_path):
    def named(**overrides):
        plan = make_plan(["EXP000"], profile="full", overrides={"dataset": "digits", **overrides}, output_dir=tmp_path)
        return [run.name for run in plan]

    assert named(lr="1e-2,0.02") == ["EXP000-LR-0_01 seed 0", "EXP000-LR-0_02 seed 0"]
    with pytest.raises(RequestError, match="EXP000-LR-0_01 seed 0 is planned twice"):
        named(lr="1e-2,0.01")
    with pytest.raises(RequestError, match="EXP000-WEIGHT_DECAY-1E_06 seed 0 is planned twice"):
        named(weight_decay="1e-6,1e6")
    assert named(validation="fold", folds="2") == ["EXP000 seed 0 fold 0 of 2", "EXP000 seed 0 fold 1 of 2"]


def test_a_sweep_is_planned_as_experiments_of_their_own(tmp_path):
    overrides = {"dataset": "digits", "lr": "0.01,0.02", "train_limit": "100"}
    plan = make_plan(["EXP000", "EXP003"], profile="full", seeds=(0, 1), overrides=overrides, output_dir=tmp_path)
    assert [run.name for run in plan] == [
        f"{name}-LR-{lr} seed {seed}" for name in ("EXP000", "EXP003") for lr in ("0_01", "0_02") for seed in (0, 1)
    ]
    assert [run.parameters.lr for run in plan[:4]] == [0.01, 0.01, 0.02, 0.02]
    assert {run.family.name for run in plan} == {"baseline", "initialization"}
    assert len({run.folder for run in plan}) == len(plan)
    with pytest.raises(RequestError, match="parameter 'lr'"):
        make_plan(["EXP000"], profile="full", overrides={"lr": "0.01,fast"}, output_dir=tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_sweep_is_run_and_reported(tmp_path, no_data, no_pdf):
    settings = "dataset=digits train_limit=100 test_limit=50 epochs=2 lr=0.01,0.02"
    assert main(["report", "EXP000", "--profile", "quick", "--set", settings, "--output", str(tmp_path)]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<span>lr = 0.02</span>" in page
    assert "Test accuracy against lr: 0.01: " in page
    assert main(["status", "EXP000", "--profile", "quick", "--set", settings, "--output", str(tmp_path)]) == 0
    assert main(["show", "exp000-lr-0_02", "--profile", "quick", "--output", str(tmp_path)]) == 0
    Image.new("RGB", (40, 30)).save(tmp_path / "black.png")
    words = ["predict", str(tmp_path / "black.png"), "--experiment", "EXP000-LR-0_02", "--output", str(tmp_path)]
    assert main(words) == 0


def swept_run(folder, accuracy, lr, seed=0):
    swept(folder, accuracy, {"lr": float(lr)}, seed)


def swept(folder, accuracy, values, seed, **given):
    name = sweep_name("EXP003", values)
    record = write_run(folder, "EXP003", accuracy, seed=seed, parameters=values, **given)
    mine = run_folder(folder, name, seed)
    run_folder(folder, "EXP003", seed).rename(mine.parent.mkdir(parents=True, exist_ok=True) or mine)
    write_record(mine, record.model_copy(update={"experiment": name}))


def test_a_sweep_on_record_is_a_table_and_a_curve(tmp_path):
    for lr, accuracy in (("0.03", 0.7), ("0.003", 0.72)):
        for seed in (0, 1):
            swept_run(tmp_path, accuracy + seed / 100, lr, seed)
    for seed in (0, 1):
        write_run(tmp_path, "EXP003", 0.75, seed=seed)
    journal = Journal(tmp_path)
    ((base, parameter, points),) = sweeps(journal, "initialization")
    assert (base, parameter) == ("EXP003", "lr")
    assert [(value, result.entry.id) for value, result in points] == [
        (0.003, "EXP003-LR-0_003"),
        (0.01, "EXP003"),
        (0.03, "EXP003-LR-0_03"),
    ]
    assert journal.results["EXP003-LR-0_03"].entry.title == "lr = 0.03"
    comparison = journal.comparisons["EXP003-LR-0_03"]
    assert (comparison.base, comparison.changed, comparison.caveat) == ("EXP003", ("lr",), None)
    page = family_section(load_catalog().family_named("initialization"), journal).html
    assert "Test accuracy against lr: 0.003: 72.50 %, 0.01: 75.00 %, 0.03: 70.50 %." in page
    html = banner(journal, "full").html
    assert "more than the original" in html
    assert "the journal works" not in html  # nothing was made smaller


def test_an_experiment_about_the_number_of_images_is_compared(tmp_path):
    for seed in (0, 1, 2):
        swept(tmp_path, 0.5 + seed / 200, {"train_limit": 5000}, seed, train_size=5000)
        write_run(tmp_path, "EXP003", 0.75 + seed / 200, seed=seed)
    comparison = Journal(tmp_path).comparisons["EXP003-TRAIN_LIMIT-5000"]
    assert (comparison.verdict, comparison.caveat) == ("worse", None)


def test_a_sweep_is_listed_by_its_values(tmp_path):
    for lr in ("0.1", "0.003", "0.03"):
        swept_run(tmp_path, 0.7, lr)
    assert list(Journal(tmp_path).complete) == ["EXP003-LR-0_003", "EXP003-LR-0_03", "EXP003-LR-0_1"]


def test_a_sweep_without_its_base_is_compared_with_the_bases_value(tmp_path):
    for lr in ("0.003", "0.01", "0.03"):
        swept_run(tmp_path, 0.7, lr)
    found = Journal(tmp_path).comparisons
    assert {name: c.base for name, c in found.items()} == {
        "EXP003-LR-0_003": "EXP003-LR-0_01",
        "EXP003-LR-0_03": "EXP003-LR-0_01",
    }
    assert {c.caveat for c in found.values()} == {None}
    shutil.rmtree(tmp_path / "runs" / "exp003-lr-0_01")
    assert {name: c.base for name, c in Journal(tmp_path).comparisons.items()} == {"EXP003-LR-0_03": "EXP003-LR-0_003"}


def test_a_sweep_of_another_budget_than_its_base_is_compared_within_itself(tmp_path):
    def base():
        write_run(tmp_path, "EXP003", 0.75, parameters={"train_limit": 1000}, train_size=1000)

    swept_run(tmp_path, 0.7, "0.003")
    base()
    alone = Journal(tmp_path).comparisons["EXP003-LR-0_003"]
    assert (alone.base, alone.caveat) == ("EXP003", "train_limit is 1000 and null")
    for lr in ("0.01", "0.03"):
        swept_run(tmp_path, 0.72, lr)
    base()
    found = Journal(tmp_path).comparisons
    assert {name: c.base for name, c in found.items()} == dict.fromkeys(
        ("EXP003-LR-0_003", "EXP003-LR-0_03"), "EXP003-LR-0_01"
    )
    assert found["EXP003-LR-0_03"].caveat is None


def test_a_sweep_means_no_other_difference(tmp_path):
    swept_run(tmp_path, 0.7, "0.03")
    write_run(tmp_path, "EXP003", 0.75, parameters={"epochs": 7})
    (comparison,) = Journal(tmp_path).comparisons.values()
    assert comparison.caveat == "epochs is 7 and 20"


def test_a_fold_with_several_seeds_has_their_range(tmp_path):
    for seed, accuracy in enumerate((0.70, 0.74)):
        record = write_run(tmp_path, "EXP003", accuracy, seed=seed)
        folder = run_folder(tmp_path, "EXP003", seed, fold=0, folds=3)
        run_folder(tmp_path, "EXP003", seed).rename(folder)
        parameters = {**record.parameters, "validation": "fold", "fold": 0, "folds": 3}
        write_record(folder, record.model_copy(update={"parameters": parameters}))
    result = Journal(tmp_path).results["EXP003"]
    assert (result.interval, result.interval_kind) == ((0.70, 0.74), "range of 2 runs, 1 fold")


def test_folds_are_not_called_seeds(tmp_path):
    for name in ("EXP001", "EXP003"):
        for fold, accuracy in enumerate((0.70, 0.74, 0.72)):
            record = write_run(tmp_path, name, accuracy)
            folder = run_folder(tmp_path, name, 0, fold=fold, folds=3)
            run_folder(tmp_path, name, 0).rename(folder)
            parameters = {**record.parameters, "validation": "fold", "fold": fold, "folds": 3}
            write_record(folder, record.model_copy(update={"parameters": parameters}))
    assert Journal(tmp_path).comparisons["EXP003"].test == "t-test, pooled spread, independent, n = 3 folds"


def test_folds_are_one_result_with_a_range(tmp_path):
    for fold, accuracy in enumerate((0.70, 0.74, 0.72)):
        record = write_run(tmp_path, "EXP003", accuracy)
        assert record.data is not None
        folder = run_folder(tmp_path, "EXP003", 0, fold=fold, folds=3)
        run_folder(tmp_path, "EXP003", 0).rename(folder)
        parameters = {**record.parameters, "validation": "fold", "fold": fold, "folds": 3}
        data = record.data.model_copy(update={"validation": "fold", "split_sha256": str(fold) * 64})
        write_record(folder, record.model_copy(update={"parameters": parameters, "data": data}))
        assert read_record(folder) is not None
    journal = Journal(tmp_path)
    result = journal.results["EXP003"]
    assert (len(result.runs), len(result.left_out)) == (3, 0)
    assert result.accuracy == pytest.approx(0.72)
    assert result.interval == (0.70, 0.74)
    assert result.interval_kind == "range of 3 runs, 3 folds"
    assert "95 % intervals (of folds, the range of their runs)" in results_at_a_glance(journal).html
    assert sorted(journal.runs.fold) == [0, 1, 2]
    write_run(tmp_path, "EXP001", 0.7)
    assert "folds share training images" in str(Journal(tmp_path).comparisons["EXP003"].caveat)
    for fold in (1, 2):  # one fold alone has no spread of seeds either
        shutil.rmtree(run_folder(tmp_path, "EXP003", 0, fold=fold, folds=3))
    for seed, accuracy in enumerate((0.7, 0.8)):
        write_run(tmp_path, "EXP004", accuracy, seed=seed)
    assert Journal(tmp_path).results["EXP003"].interval == wilson_interval(700, 1000)
