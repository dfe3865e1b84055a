import csv
import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cifar_report.execution.plan import damaged_results
from cifar_report.experiments.errors import RequestError
from cifar_report.records import files
from cifar_report.records.files import RESULT_FILES
from cifar_report.records.lock import LOCK
from cifar_report.records.record import RESUMED_ELSEWHERE, read_record, run_folder
from cifar_report.run import Run
from cifar_report.training import loop
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


def test_the_record_is_written_last(tiny, tmp_path, monkeypatch):
    """Its presence says that the run is complete."""
    usual, order = files.atomic_file, []
    monkeypatch.setattr(files, "atomic_file", lambda path: order.append(path.name) or usual(path))
    complete(tiny(output_dir=str(tmp_path)))
    assert order[order.index("model.safetensors") :] == ["model.safetensors", "predictions.npz", "run.json"]
    assert order.count("run.json") == 1


def test_float32_is_exact_from_the_start(tiny, tmp_path):
    """Also where a finished run is only evaluated again."""
    parts = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    for part in parts:
        part.fp32_precision = "tf32"
    Run.start(tiny(output_dir=str(tmp_path)).model_dump(), family="baseline")
    assert [part.fp32_precision for part in parts] == ["ieee", "ieee"]


def test_what_is_unlike_the_experiments_file_is_said(tiny, tmp_path, capsys):
    Run.start(tiny(lr=0.02, output_dir=str(tmp_path)).model_dump(), family="baseline")
    assert "\nlr is 0.02; params/exp000.yaml has 0.01\n" in capsys.readouterr().out


def test_run_leaves_what_the_contract_says(tiny, tmp_path):
    run = complete(tiny(output_dir=str(tmp_path), epochs=3))
    assert run.folder == tmp_path / "runs" / "exp000" / "seed-0"
    assert {path.name for path in run.folder.iterdir()} - {LOCK} == set(RESULT_FILES)
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


def test_a_first_epoch_that_was_interrupted_starts_from_the_initial_weights_again(tiny, tmp_path, monkeypatch):
    one = complete(tiny(output_dir=str(tmp_path / "a")))
    run = Run.start(tiny(output_dir=str(tmp_path / "b")).model_dump(), family="baseline")
    run.load_dataset()
    run.build_model()

    def interrupted(model, *args, **options):
        with torch.no_grad():
            next(model.parameters()).add_(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("cifar_report.run.train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.train()
    run.train()
    assert run.evaluate().logits.equal(one.evaluation.logits)


def test_a_model_that_is_built_anew_is_not_scored_or_saved_before_it_is_trained(tiny, tmp_path):
    run = complete(tiny(output_dir=str(tmp_path)))
    before = (run.folder / "model.safetensors").read_bytes()
    run.build_model()
    for step in (run.evaluate, run.complete):
        with pytest.raises(RequestError, match="execute the cells above first, in their order"):
            step()
    assert (run.folder / "model.safetensors").read_bytes() == before


def test_a_training_that_is_repeated_and_interrupted_is_not_scored_or_saved(tiny, tmp_path, monkeypatch):
    run = complete(tiny(output_dir=str(tmp_path)))
    before = (run.folder / "run.json").read_bytes()
    run = Run.start(tiny(output_dir=str(tmp_path), lr=0.02).model_dump(), family="baseline")
    run.load_dataset()
    run.build_model()
    run.train()

    def interrupt(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("cifar_report.run.train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    for step in (run.evaluate, run.complete):
        with pytest.raises(RequestError, match="execute the cells above first, in their order"):
            step()
    assert (run.folder / "run.json").read_bytes() == before


def test_cells_in_a_wrong_order_are_told_so(tiny, tmp_path):
    run = complete(tiny(output_dir=str(tmp_path)))
    before = (run.folder / "run.json").read_bytes()
    other = Run.start(tiny(output_dir=str(tmp_path), lr=0.02).model_dump(), family="baseline")
    for step in (other.build_model, other.train, other.evaluate, other.complete, lambda: other.predictions):
        with pytest.raises(RequestError, match="execute the cells above first, in their order"):
            step()
    assert (run.folder / "run.json").read_bytes() == before
    with pytest.raises(AttributeError):
        other.no_such_thing  # noqa: B018


@pytest.mark.parametrize("device", ["mps", "cuda:77"])
def test_a_device_that_is_not_there_is_refused_before_a_folder_is_made(tiny, tmp_path, monkeypatch, device):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RequestError, match=f"device={device} is set, but this machine lacks it"):
        Run.start(tiny(output_dir=str(tmp_path / "out"), device=device).model_dump(), family="baseline")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"validation": "holdout", "holdout_size": 1440, "train_limit": None}, "too few images to train on"),
        ({"train_limit": 20, "batch_size": 20, "epochs": 3, "schedule": "triangular"}, "three training steps"),
    ],
)
def test_what_leaves_nothing_to_train_on_is_refused_by_hand_too(tiny, tmp_path, given, message):
    run = Run.start(tiny(output_dir=str(tmp_path), **given).model_dump(), family="baseline")
    with pytest.raises(RequestError, match=message):
        run.load_dataset()


def test_home_is_where_a_tilde_points(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Run.start(tiny(output_dir="~/own").model_dump(), family="baseline").folder.is_relative_to(tmp_path / "own")


def test_holdout_touches_the_test_images_once_at_the_end(tiny, tmp_path, monkeypatch):
    evaluated = []

    def counted(model, split, *rest, **more):
        evaluated.append(len(split))
        return evaluate(model, split, *rest, **more)

    monkeypatch.setattr("cifar_report.run.evaluate", counted)
    monkeypatch.setattr("cifar_report.training.loop.evaluate", counted)
    run = complete(tiny(output_dir=str(tmp_path), validation="holdout", holdout_size=100, epochs=3))
    assert evaluated == [100, 100, 100, 50]
    record = read_record(run.folder)
    assert record is not None
    assert record.test is not None
    assert record.data is not None
    assert (record.test.total, record.data.validation_size, record.data.validation) == (50, 100, "holdout")


def test_a_finished_run_is_offered_when_it_is_run_again(tiny, tmp_path, monkeypatch, capsys):
    parameters = tiny(output_dir=str(tmp_path), validation="holdout", holdout_size=100)
    first = complete(parameters)
    files = {path: path.read_bytes() for path in first.folder.iterdir()}
    monkeypatch.setattr("cifar_report.run.train", lambda *_, **__: pytest.fail("trained again"))
    again = complete(parameters)
    assert "this run is complete" in capsys.readouterr().out
    assert again.history == first.history
    assert torch.equal(again.evaluation.logits, first.evaluation.logits)
    assert {path: path.read_bytes() for path in first.folder.iterdir()} == files


@pytest.mark.parametrize("damaged", ["model.safetensors", "predictions.npz", "run.json"])
def test_a_damaged_result_is_made_again(damaged, tiny, tmp_path):
    parameters = tiny(output_dir=str(tmp_path))
    first = complete(parameters)
    (first.folder / damaged).write_bytes(b"")
    again = complete(parameters)
    assert torch.equal(again.evaluation.logits, first.evaluation.logits)
    assert read_record(first.folder) is not None


def test_an_earlier_result_stays_until_the_new_one_is_complete(tiny, tmp_path, monkeypatch):
    old = complete(tiny(output_dir=str(tmp_path)))
    kept = {name: (old.folder / name).read_bytes() for name in RESULT_FILES if name != "history.csv"}
    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", lambda run: pytest.fail("interrupted after training"))
        with pytest.raises(pytest.fail.Exception):
            complete(tiny(output_dir=str(tmp_path), lr=0.005))
    assert {name: (old.folder / name).read_bytes() for name in kept} == kept
    assert damaged_results(old.folder, read_record(old.folder)) == ""
    new = complete(tiny(output_dir=str(tmp_path), lr=0.005))
    assert {path.name for path in new.folder.iterdir()} - {LOCK} == set(RESULT_FILES)
    assert read_record(new.folder).parameters["lr"] == 0.005
    assert len((new.folder / "history.csv").read_text().splitlines()) == 1 + len(new.history)


def test_a_newer_versions_run_is_not_overwritten_by_hand(tiny, tmp_path):
    folder = run_folder(tmp_path, "EXP000", 0)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"schema_version": 99}')
    with pytest.raises(RequestError, match="newer version of cifar-report"):
        Run.start(tiny(output_dir=str(tmp_path)).model_dump(), family="baseline")
    assert (folder / "run.json").exists()


def test_sessions_that_differ_are_told(tiny, tmp_path, monkeypatch, interrupted):
    """A run that goes on with other threads need not reproduce to the last bit, and says so."""
    parameters = tiny(output_dir=str(tmp_path), epochs=3).model_dump()

    def session(threads, interrupted_after=None):
        run = Run.start(parameters, family="baseline")
        monkeypatch.setattr("cifar_report.run.describe_environment", lambda device: environment(threads))
        run.load_dataset()
        run.build_model()
        if interrupted_after:
            with interrupted(interrupted_after):
                run.train()
            return None
        run.train()
        run.evaluate()
        return run.complete()

    def environment(threads):
        here = describe_environment(torch.device("cpu"))
        return here.model_copy(update={"threads": threads, "git_commit": str(threads)})  # the key knows the code

    session(2, interrupted_after=1)
    session(1, interrupted_after=2)
    record = session(2)
    assert record.warnings == [f"{RESUMED_ELSEWHERE}: threads 2, then 1"]  # and 2 again
    assert record.environment.threads == 2


def test_a_checkpoint_of_another_precision_is_not_gone_on_with(tiny, tmp_path, monkeypatch, capsys):
    """`auto` is bfloat16 on one GPU and float16 on the next, whose loss scaler has a state of its own."""
    parameters = tiny(output_dir=str(tmp_path), epochs=2)
    for precision in ("bfloat16", "float16"):
        monkeypatch.setattr("cifar_report.run.choose_precision", lambda *_, precision=precision: precision)
        with monkeypatch.context() as patch:
            patch.setattr(Run, "evaluate", lambda run: pytest.fail("interrupted after training"))
            with pytest.raises(pytest.fail.Exception):
                complete(parameters)
    output = capsys.readouterr().out
    assert "device or precision: starting again" in output
    assert "going on after epoch" not in output


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


def test_the_training_time_of_a_resumed_run_is_that_of_all_its_epochs(tiny, tmp_path, monkeypatch, interrupted):
    parameters = tiny(output_dir=str(tmp_path), epochs=3)
    monkeypatch.setattr(loop, "perf_counter", itertools.count(0, 100).__next__)  # an epoch takes 100 seconds
    with interrupted(1):
        complete(parameters)
    seconds = complete(parameters).record().seconds
    assert seconds.train == pytest.approx(300, abs=60)
    assert seconds.total >= seconds.train
