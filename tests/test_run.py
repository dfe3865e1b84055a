import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cifar_report.experiments.errors import RequestError
from cifar_report.records.record import RESUMED_ELSEWHERE, read_record, run_folder
from cifar_report.run import RESULT_FILES, Run
from cifar_report.training.choices import chosen
from cifar_report.training.environment import describe_environment
from cifar_report.training.evaluation import evaluate


def complete(parameters) -> Run:
    run = Run.start(parameters.model_dump(), family="baseline")
    run.load_dataset()
    run.build_model()
    run.train()
    run.evaluate()
    run.complete()
    return run


def test_run_leaves_what_the_contract_says(tiny, tmp_path):
    run = complete(tiny(output_dir=str(tmp_path), epochs=3))
    assert run.folder == tmp_path / "runs" / "exp000" / "seed-0"
    assert {path.name for path in run.folder.iterdir()} == set(RESULT_FILES)
    record = read_record(run.folder)
    assert record is not None
    assert record.test is not None
    assert record.key is not None
    assert record.environment is not None
    assert record.seconds.total >= record.seconds.train > 0
    losses = [epoch.validation_loss for epoch in record.epochs]
    assert record.best_epoch == losses.index(min(losses)) + 1
    with (run.folder / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["validation_loss"]) for row in rows] == losses
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]


def test_stored_weights_give_the_stored_predictions(tiny, tmp_path):
    run = complete(tiny(output_dir=str(tmp_path)))
    model = chosen("model", "net").build().to(memory_format=torch.channels_last)
    model.load_state_dict(load_file(run.folder / "model.safetensors"))
    again = evaluate(model, run.dataset.test, run.parameters)
    with np.load(run.folder / "predictions.npz") as stored:
        assert np.array_equal(stored["logits"], again.logits.numpy().astype(np.float16))
        assert np.array_equal(stored["predicted"], again.predicted.numpy())
        assert np.array_equal(stored["labels"], run.dataset.test.labels.numpy())


def test_what_happens_between_the_steps_does_not_change_the_result(tiny, tmp_path):
    one = complete(tiny(output_dir=str(tmp_path / "a"), model="lenet", seed=3))
    run = Run.start(tiny(output_dir=str(tmp_path / "b"), model="lenet", seed=3).model_dump(), family="baseline")
    run.load_dataset()
    torch.rand(17)
    run.build_model()
    torch.rand(5)
    run.train()
    assert torch.equal(run.evaluate().logits, one.evaluation.logits)


def test_holdout_touches_the_test_images_once_at_the_end(tiny, tmp_path, monkeypatch):
    evaluated = []

    def counted(model, split, *rest, **more):
        evaluated.append(len(split))
        return evaluate(model, split, *rest, **more)

    monkeypatch.setattr("cifar_report.training.evaluation.evaluate", counted)
    monkeypatch.setattr("cifar_report.training.loop.evaluate", counted)
    run = complete(tiny(output_dir=str(tmp_path), validation="holdout", holdout_size=100, epochs=3))
    assert evaluated == [100, 100, 100, 50]
    record = read_record(run.folder)
    assert record is not None
    assert record.test is not None
    assert record.data is not None
    assert (record.test.total, record.data.validation_size, record.data.validation) == (50, 100, "holdout")


def test_new_run_clears_the_folder_of_the_old(tiny, tmp_path):
    run = complete(tiny(output_dir=str(tmp_path)))
    Run.start(tiny(output_dir=str(tmp_path)).model_dump(), family="baseline")
    assert list(run.folder.iterdir()) == []


def test_a_newer_versions_run_is_not_overwritten_by_hand(tiny, tmp_path):
    folder = run_folder(tmp_path, "EXP000", 0)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"schema_version": 99}')
    with pytest.raises(RequestError, match="newer version of cifar-report"):
        Run.start(tiny(output_dir=str(tmp_path)).model_dump(), family="baseline")
    assert (folder / "run.json").exists()


def test_sessions_that_differ_are_told(tiny, tmp_path, monkeypatch):
    """A run that goes on with other threads need not reproduce to the last bit, and says so."""
    parameters = tiny(output_dir=str(tmp_path), epochs=3).model_dump()

    def session(threads, last):
        run = Run.start(parameters, family="baseline")
        monkeypatch.setattr("cifar_report.run.describe_environment", lambda device: environment(threads))
        run.load_dataset()
        run.build_model()
        if not last:
            monkeypatch.setattr(run, "_append_epoch", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run.train()
            return None
        run.train()
        run.evaluate()
        return run.complete()

    def environment(threads):
        here = describe_environment(torch.device("cpu"))
        return here.model_copy(update={"threads": threads, "git_commit": str(threads)})  # the key knows the code

    def interrupt(epoch):
        raise KeyboardInterrupt

    session(2, last=False)
    record = session(1, last=True)
    assert record.warnings == [f"{RESUMED_ELSEWHERE}: threads 2, then 1"]
    assert record.environment.threads == 1


def test_experiment_of_another_notebook_is_refused(tiny, tmp_path):
    with pytest.raises(RequestError, match=r"EXP007 belongs to the notebook 03_optimizers\.ipynb"):
        Run.start(tiny(experiment="EXP007", output_dir=str(tmp_path / "x")).model_dump(), family="baseline")
    assert not (tmp_path / "x").exists()


def test_experiment_of_ones_own_runs_in_any_notebook(tiny, tmp_path):
    run = complete(tiny(experiment="MINE", output_dir=str(tmp_path)))
    assert run.folder == tmp_path / "runs" / "mine" / "seed-0"


def test_unwritable_folder_is_an_error_that_names_it(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot write to the run folder .*file"):
        Run.start(tiny(output_dir=str(tmp_path / "file")).model_dump(), family="baseline")


def test_stand_in_is_told_and_recorded(tiny, tmp_path, no_data, capsys):
    run = complete(tiny(dataset="cifar10", offline="stand_in", output_dir=str(tmp_path / "o")))
    assert "WARNING: CIFAR-10 not found" in capsys.readouterr().out
    record = read_record(run.folder)
    assert record is not None
    assert record.data is not None
    assert record.data.stand_in
    assert record.data.name == "digits"
    assert len(record.warnings) == 1


def test_record_says_what_was_computed_in_and_what_it_cost(tiny, tmp_path):
    run = complete(tiny(output_dir=str(tmp_path), epochs=2))
    record = read_record(run.folder)
    assert record is not None
    assert record.data is not None
    assert record.precision == "float32"
    assert record.training_pflop == pytest.approx(2 * 100 * 3_204_720 / 1e15)
    assert record.data.provenance == "bundled"
