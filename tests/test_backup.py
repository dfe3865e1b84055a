"""Copies of runs on another disk, such as a mounted Drive that can vanish."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from records import write_run
from safetensors.numpy import load_file

from cifar_report.cli import main
from cifar_report.execution.plan import damaged_results, make_plan
from cifar_report.execution.worker import execute_run
from cifar_report.experiments.errors import RequestError
from cifar_report.records.backup import BACKUP, Backup, restore_runs
from cifar_report.records.files import CHECKPOINT, PREDICTIONS, PROGRESS, RECORD, RESULT_FILES
from cifar_report.records.lock import folder_lock
from cifar_report.records.record import read_record, run_folder
from cifar_report.run import Run

LOST = OSError(107, "Transport endpoint is not connected")


def play(parameters):
    """Do a run."""
    run = Run(parameters, "initialization")
    run.folder.mkdir(parents=True, exist_ok=True)
    run.load_dataset()
    run.build_model()
    run.train()
    run.evaluate()
    run.complete()
    return run


def fail_to_copy(monkeypatch, error_of):
    """Copying a file raises what `error_of` says of it, if anything."""
    usual = shutil.copyfile

    def copy(source, target):
        if error := error_of(Path(source)):
            raise error
        return usual(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy)


@pytest.fixture
def drive(tmp_path, monkeypatch):
    monkeypatch.setenv(BACKUP, str(tmp_path / "drive"))
    return tmp_path / "drive" / "quick" / "exp003" / "seed-0"


def test_a_machine_that_was_taken_away_goes_on_elsewhere_to_the_same_result(
    interrupted, tiny, tmp_path, monkeypatch, drive, capsys
):
    parameters = tiny(experiment="EXP003", model="lenet", epochs=3, output_dir=str(tmp_path / "a" / "quick"))
    with interrupted(2):
        play(parameters)
    assert {path.name for path in drive.iterdir()} == {"checkpoint.pt", ".checkpoint.json"}
    second = play(parameters.model_copy(update={"output_dir": str(tmp_path / "b" / "quick")}))
    assert "going on after epoch 2 of 3" in capsys.readouterr().out
    assert {path.name for path in drive.iterdir()} == set(RESULT_FILES)
    monkeypatch.delenv(BACKUP)
    whole = play(parameters.model_copy(update={"output_dir": str(tmp_path / "c" / "quick")}))
    expected, found = (load_file(run.folder / "model.safetensors") for run in (whole, second))
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_lost_mount_stops_nothing(tiny, tmp_path, drive, capsys, monkeypatch):
    drive.parent.mkdir(parents=True)
    parameters = tiny(experiment="EXP003", model="lenet", epochs=2, output_dir=str(tmp_path / "a" / "quick"))
    fail_to_copy(monkeypatch, lambda source: LOST if source.name == CHECKPOINT else None)
    run = play(parameters)
    out = capsys.readouterr().out
    assert out.count("(Transport endpoint is not connected); the run goes on and tries again") == 1
    fail_to_copy(monkeypatch, lambda source: LOST)
    play(parameters.model_copy(update={"lr": 0.02}))
    out = capsys.readouterr().out
    assert out.count("the run goes on and tries again") == out.count("this result has no copy") == 1
    assert "Transport endpoint is not connected" in read_record(run.folder).warnings[0]


def test_a_mount_that_comes_back_gets_its_copies_again(tiny, tmp_path, drive, monkeypatch):
    parameters = tiny(experiment="EXP003", model="lenet", epochs=3, output_dir=str(tmp_path / "a" / "quick"))
    errors = iter([OSError(5, "Input/output error")])
    drive.mkdir(parents=True)
    (drive / ".checkpoint-abc.pt").write_text("left by a process that was killed")
    fail_to_copy(monkeypatch, lambda source: next(errors, None))
    play(parameters)
    assert {path.name for path in drive.iterdir()} == set(RESULT_FILES)


def test_a_state_that_cannot_be_fetched_is_not_replaced(interrupted, tiny, tmp_path, drive, monkeypatch):
    parameters = tiny(experiment="EXP003", model="lenet", epochs=3, output_dir=str(tmp_path / "a" / "quick"))
    with interrupted(2):
        play(parameters)
    kept, errors = (drive / CHECKPOINT).read_bytes(), iter([OSError(5, "Input/output error")])
    fail_to_copy(monkeypatch, lambda source: next(errors, None))
    play(parameters.model_copy(update={"output_dir": str(tmp_path / "b" / "quick")}))
    assert (drive / CHECKPOINT).read_bytes() == kept


def test_complete_runs_come_back_to_a_new_machine(tiny, tmp_path, drive):
    run = play(tiny(experiment="EXP003", model="lenet", output_dir=str(tmp_path / "a" / "quick")))
    assert restore_runs(tmp_path / "b" / "quick") == 1
    folder = run_folder(tmp_path / "b" / "quick", "EXP003", 0)
    assert read_record(folder) == read_record(run.folder)
    assert {path.name for path in folder.iterdir()} == set(RESULT_FILES)
    assert restore_runs(tmp_path / "b" / "quick") == 0
    assert restore_runs(tmp_path / "b" / "full") == 0  # another profile's copies are others


def test_a_notebook_run_by_hand_gets_its_complete_run_back(tiny, tmp_path, drive, capsys, monkeypatch):
    parameters = tiny(experiment="EXP003", model="lenet", output_dir=str(tmp_path / "a" / "quick"))
    record = read_record(play(parameters).folder)
    capsys.readouterr()

    def interrupted(run):
        raise KeyboardInterrupt

    again = play(parameters.model_copy(update={"output_dir": str(tmp_path / "b" / "quick")}))
    assert "this run is complete" in capsys.readouterr().out
    assert read_record(again.folder).finished_at == record.finished_at
    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            play(parameters.model_copy(update={"output_dir": str(tmp_path / "c" / "quick"), "lr": 0.5}))
    assert read_record(run_folder(tmp_path / "c" / "quick", "EXP003", 0)) is None
    other = play(parameters.model_copy(update={"output_dir": str(tmp_path / "c" / "quick"), "lr": 0.5}))
    assert "this run is complete" not in capsys.readouterr().out  # the copy is of other parameters
    assert read_record(other.folder).parameters["lr"] == 0.5


def test_a_run_in_execution_and_a_wrong_request_bring_nothing_back(tiny, tmp_path, monkeypatch, capsys, drive):
    play(tiny(experiment="EXP003", model="lenet", output_dir=str(tmp_path / "a" / "quick")))
    folder = run_folder(tmp_path / "b" / "quick", "EXP003", 0)
    with folder_lock(folder):
        assert restore_runs(tmp_path / "b" / "quick") == 0
    output = str(tmp_path / "c" / "quick")
    assert main(["run", "EXP003", "--profile", "quick", "--output", output, "--set", "epocs=3"]) == 2
    assert not (tmp_path / "c").exists()
    (tmp_path / "d" / "quick").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "d" / "quick")
    assert restore_runs(Path()) == 1  # the folder's name is what counts, however it is written


def test_copies_of_a_newer_version_are_refused_before_anything_is_brought_back(tiny, tmp_path, drive):
    for name in ("EXP003", "EXP004"):
        play(tiny(experiment=name, model="lenet", output_dir=str(tmp_path / "a" / "quick")))
    copy = drive.parents[1] / "exp004" / "seed-0" / "run.json"
    copy.write_text(json.dumps({**json.loads(copy.read_text()), "schema_version": 99}))
    with pytest.raises(RequestError, match="newer version"):
        restore_runs(tmp_path / "b" / "quick")
    assert not (tmp_path / "b").exists()


def test_a_resumed_run_copies_no_epoch_twice(interrupted, tiny, tmp_path, monkeypatch, drive):
    parameters = tiny(experiment="EXP003", model="lenet", epochs=4, output_dir=str(tmp_path / "a" / "quick"))
    with interrupted(3):
        play(parameters)
    usual, copied = shutil.copyfile, []

    def counted(source, target):
        copied.append(Path(source).name)
        return usual(source, target)

    monkeypatch.setattr(shutil, "copyfile", counted)
    play(parameters.model_copy(update={"output_dir": str(tmp_path / "b" / "quick")}))
    assert copied.count(CHECKPOINT) == 2  # fetched once, saved once: after the fourth epoch


def test_an_earlier_result_stays_until_a_run_with_other_parameters_is_complete(
    interrupted, tiny, tmp_path, drive, capsys
):
    parameters = tiny(experiment="EXP003", model="lenet", epochs=2, output_dir=str(tmp_path / "a" / "quick"))
    play(parameters)
    with interrupted(1):
        play(parameters.model_copy(update={"lr": 0.02, "output_dir": str(tmp_path / "b" / "quick")}))
    assert restore_runs(tmp_path / "c" / "quick") == 1
    folder = tmp_path / "c" / "quick" / "runs" / "exp003" / "seed-0"
    record = read_record(folder)
    assert record.parameters["lr"] == parameters.lr
    assert damaged_results(folder, record) == ""
    other = play(parameters.model_copy(update={"lr": 0.02, "output_dir": str(tmp_path / "c" / "quick")}))
    assert "going on from the copy" in capsys.readouterr().out
    assert restore_runs(tmp_path / "d" / "quick") == 1
    kept = tmp_path / "d" / "quick" / "runs" / "exp003" / "seed-0"
    assert read_record(kept).key == other.key
    assert not (kept / CHECKPOINT).exists()


def test_without_a_backup_nothing_is_copied(tmp_path, monkeypatch):
    monkeypatch.delenv(BACKUP, raising=False)
    backup = Backup(tmp_path / "runs" / "exp003" / "seed-0")
    backup.save_state()
    assert not backup.save(RESULT_FILES)
    backup.restore_state("key", "cpu")
    assert restore_runs(tmp_path) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_goes_on_with_what_another_machine_has_completed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(BACKUP, str(tmp_path / "drive"))
    pairs = "dataset=digits train_limit=64 test_limit=30 epochs=1"

    def run(machine: str) -> str:
        output = str(tmp_path / machine / "quick")
        assert main(["run", "EXP000", "--profile", "quick", "--output", output, "--set", pairs]) == 0
        return capsys.readouterr().out

    assert "1 run planned, 0 complete, 1 to execute" in run("first")
    out = run("second")
    assert "1 complete run restored from the backup" in out
    assert "1 run planned, 1 complete, 0 to execute" in out
    assert (run_folder(tmp_path / "second" / "quick", "EXP000", 0) / "notebook.ipynb").is_file()


def test_a_result_that_cannot_be_fetched_is_not_replaced(tiny, tmp_path, drive, monkeypatch, capsys):
    parameters = tiny(experiment="EXP003", model="lenet", output_dir=str(tmp_path / "a" / "quick"))
    play(parameters)
    kept, errors = (drive / RECORD).read_bytes(), iter([OSError(5, "Input/output error")])
    fail_to_copy(monkeypatch, lambda source: next(errors, None))
    play(parameters.model_copy(update={"output_dir": str(tmp_path / "b" / "quick")}))
    assert "failed (Input/output error); nothing is copied there" in capsys.readouterr().out
    assert (drive / RECORD).read_bytes() == kept


def test_a_mount_that_is_lost_before_training_stops_nothing(tiny, tmp_path, drive, monkeypatch, capsys):
    parameters = tiny(experiment="EXP003", model="lenet", output_dir=str(tmp_path / "a" / "quick"))
    usual = Path.read_bytes

    def read(path):
        if path == drive / RECORD:
            raise LOST
        return usual(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    run = play(parameters)
    assert "Transport endpoint is not connected); nothing is copied there" in capsys.readouterr().out
    assert read_record(run.folder).status == "completed"


def test_a_complete_copy_takes_the_place_of_another_result(tiny, tmp_path, drive, capsys):
    parameters = tiny(experiment="EXP003", model="lenet", lr=0.02, output_dir=str(tmp_path / "a" / "quick"))
    elsewhere = play(parameters)
    other = parameters.model_copy(update={"lr": 0.01, "output_dir": str(tmp_path / "b" / "quick")})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(BACKUP)
        play(other)
    capsys.readouterr()
    again = play(other.model_copy(update={"lr": 0.02}))
    assert "this run is complete" in capsys.readouterr().out
    assert read_record(again.folder) == read_record(elsewhere.folder)
    assert (drive / RECORD).is_file()


def test_copies_go_by_the_output_folder_though_its_runs_lie_elsewhere(tiny, tmp_path, drive):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a" / "quick").mkdir(parents=True)
    (tmp_path / "a" / "quick" / "runs").symlink_to(tmp_path / "disk")
    play(tiny(experiment="EXP003", model="lenet", output_dir=str(tmp_path / "a" / "quick")))
    assert (drive / RECORD).is_file()
    assert restore_runs(tmp_path / "b" / "quick") == 1


def test_a_copy_that_comes_back_in_part_is_no_complete_run(tmp_path, drive, monkeypatch):
    write_run(tmp_path / "elsewhere", "EXP003")
    shutil.copytree(run_folder(tmp_path / "elsewhere", "EXP003", 0), drive)
    fail_to_copy(monkeypatch, lambda source: LOST if source.name == PREDICTIONS else None)
    assert restore_runs(tmp_path / "quick") == 0
    assert read_record(run_folder(tmp_path / "quick", "EXP003", 0)) is None


@pytest.mark.parametrize(
    ("key", "device", "own", "kept", "goes_on_from"),
    [
        ("of this run", "cpu, float32", 3, 2, "own"),
        ("of this run", "cpu, float32", 2, 2, "own"),
        ("of this run", "cpu, float32", 2, 3, "kept"),
        ("of another", "cpu, float32", 2, 3, "own"),
        ("of this run", "cuda, float16", 2, 3, "own"),
        ("of this run", "cpu, float32", 2, None, "own"),
        ("of this run", "cpu, float32", None, 1, "kept"),
    ],
)
def test_the_state_of_more_epochs_is_gone_on_from(tmp_path, drive, key, device, own, kept, goes_on_from):
    """Here or in the copy; the copy's only if it is this very run's, which the file beside the checkpoint says."""
    folder = run_folder(tmp_path / "quick", "EXP003", 0)
    for at, name, epochs in ((folder, "own", own), (drive, "kept", kept)):
        at.mkdir(parents=True)
        (at / CHECKPOINT).write_text(name)
        if epochs:
            of = {"key": key, "device": device} if name == "kept" else {"key": "of this run", "device": "cpu, float32"}
            (at / PROGRESS).write_text(json.dumps({**of, "epochs": epochs}))
    Backup(folder).restore_state("of this run", "cpu, float32")
    assert (folder / CHECKPOINT).read_text() == goes_on_from


@pytest.mark.parametrize(
    ("key", "device", "epochs", "replaced"),
    [
        ("of this run", "cuda, bfloat16", 1, False),
        ("of this run", "cuda, bfloat16", 3, True),
        ("of this run", "cuda, float16", 1, True),
        ("of another", "cuda, bfloat16", 1, True),
    ],
)
def test_the_state_of_another_kind_of_gpu_is_kept_until_this_one_is_as_far(
    tmp_path, drive, key, device, epochs, replaced
):
    """Colab's next session may have another GPU, which starts again; the one after it may have the first again."""
    folder = run_folder(tmp_path / "quick", "EXP003", 0)
    states = (drive, "theirs", "of this run", "cuda, float16", 3), (folder, "ours", key, device, epochs)
    for at, name, of, on, count in states:
        at.mkdir(parents=True)
        (at / CHECKPOINT).write_text(name)
        (at / PROGRESS).write_text(json.dumps({"key": of, "device": on, "epochs": count}))
    Backup(folder).save_state()
    assert (drive / CHECKPOINT).read_text() == ("ours" if replaced else "theirs")


def test_an_older_state_of_this_machine_replaces_no_newer_one_in_the_copy(interrupted, tiny, tmp_path, drive, capsys):
    parameters = tiny(experiment="EXP003", model="lenet", epochs=5, output_dir=str(tmp_path / "a" / "quick"))
    with interrupted(1):
        play(parameters)
    with interrupted(4):
        play(parameters.model_copy(update={"output_dir": str(tmp_path / "b" / "quick")}))
    capsys.readouterr()
    play(parameters)  # on the first machine again
    assert "going on after epoch 4 of 5" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_result_is_brought_back_from_its_copy(tmp_path, drive):
    (planned,) = make_plan(
        ["EXP003"],
        profile="quick",
        output_dir=tmp_path / "quick",
        overrides={"dataset": "digits", "train_limit": 64, "test_limit": 30, "epochs": 1},
    )
    first = execute_run(planned)
    (planned.folder / PREDICTIONS).write_bytes(b"damaged")
    assert execute_run(planned) == first
    assert planned.is_complete()
