import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from records import write_run
from safetensors.numpy import save_file

from cifar_report.experiments.catalog import load_experiment
from cifar_report.experiments.errors import RequestError
from cifar_report.journal.journal import Journal
from cifar_report.records import files
from cifar_report.records.files import atomic_file
from cifar_report.records.record import now, read_record, read_runs, recorded_folder, run_folder

CONTRACT = [
    "schema_version",
    "experiment",
    "family",
    "seed",
    "key",
    "status",
    "error",
    "parameters",
    "started_at",
    "finished_at",
    "seconds",
    "epochs",
    "test",
    "best_epoch",
    "model",
    "data",
    "weights",
    "environment",
]


def test_record_has_the_contracts_fields(tmp_path):
    write_run(tmp_path, "EXP003")
    path = tmp_path / "runs" / "exp003" / "seed-0" / "run.json"
    content = json.loads(path.read_text())
    assert set(CONTRACT) <= set(content)
    assert set(content["seconds"]) == {"setup", "train", "evaluate", "total"}
    assert set(content["test"]) == {"loss", "accuracy", "correct", "total", "accuracy_without_flip"}
    epoch = "epoch train_loss train_accuracy validation_loss validation_accuracy lr seconds"
    assert list(content["epochs"][0]) == epoch.split()
    environment = "python torch torchvision platform device device_name threads git_commit git_dirty"
    assert list(content["environment"]) == environment.split()


def test_record_survives_writing_and_reading(tmp_path):
    written = write_run(tmp_path, "EXP003", seed=4)
    assert read_record(run_folder(tmp_path, "EXP003", 4)) == written


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 1}', "\x00"])
def test_damaged_record_is_no_record(tmp_path, content):
    write_run(tmp_path, "EXP003")
    folder = run_folder(tmp_path, "EXP003", 0)
    (folder / "run.json").write_text(content)
    assert read_record(folder) is None


def test_a_record_of_a_newer_version_is_refused_and_not_left_out(tmp_path):
    write_run(tmp_path, "EXP003")
    write_run(tmp_path, "EXP003", seed=1)
    file = run_folder(tmp_path, "EXP003", 1) / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99, "new": 1}))
    with pytest.raises(RequestError, match="newer version of cifar-report"):
        Journal(tmp_path)
    file.rename(file.with_name("failed.json"))
    with pytest.raises(RequestError, match="newer version of cifar-report"):
        read_record(file.parent, "failed.json")


def test_no_record_is_no_record(tmp_path):
    assert read_record(tmp_path / "nothing") is None


def test_atomic_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"

    def interrupted() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(path.parent.iterdir()) == []
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_now_is_utc():
    moment = datetime.fromisoformat(now())
    assert moment.tzinfo == UTC
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 5


def test_a_copied_folder_is_no_run(tmp_path):
    """Path, experiment and seed of a record agree, or it counts for nothing."""
    record = write_run(tmp_path, "EXP003")
    folder = run_folder(tmp_path, "EXP003", 0)
    shutil.copytree(folder, folder.with_name("seed-0.bak"))
    shutil.copytree(folder, folder.with_name("seed-7"))
    shutil.copytree(folder, tmp_path / "runs" / "exp004" / "seed-0")
    assert read_runs(tmp_path / "runs" / "exp003") == [record]
    assert read_runs(tmp_path / "runs" / "exp004") == []


def test_folds_have_folders_of_their_own(tmp_path):
    folds = [{"validation": "fold", "fold": fold, "folds": 5} for fold in range(5)]
    folders = [run_folder(tmp_path, "EXP003", 1, fold=given["fold"], folds=5) for given in folds]
    assert folders[3] == tmp_path / "runs" / "exp003" / "seed-1-fold-3-of-5"
    assert len(set(folders)) == 5
    record = write_run(tmp_path, "EXP003", seed=1)
    of_fold = record.model_copy(
        update={"parameters": load_experiment("EXP003", overrides=folds[3]).result_parameters()}
    )
    assert recorded_folder(tmp_path, of_fold) == folders[3]


def test_files_are_synchronized_through_a_writable_descriptor(tmp_path, monkeypatch):
    """Windows refuses any other."""
    flags = []
    monkeypatch.setattr(os, "fsync", lambda handle: flags.append(os.write(handle, b"")))
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
    assert flags == [0]
    assert (tmp_path / "a.txt").read_text() == "a"


def test_weights_may_be_read_by_whom_any_new_file_may(tmp_path):
    with atomic_file(tmp_path / "model.safetensors") as temporary:
        save_file({"weight": np.zeros(1)}, temporary)
    (tmp_path / "new").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_disk_that_knows_no_modes_takes_files(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    files.write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


def test_windows_waits_for_who_reads_the_file_that_is_replaced(tmp_path, monkeypatch):
    refused = iter([PermissionError, PermissionError])
    replace = Path.replace

    def refuse(source, target):
        for error in refused:
            raise error
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(files, "os", SimpleNamespace(name="nt", fsync=os.fsync, umask=os.umask))
    files.write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


def test_elsewhere_a_refusal_is_an_error_at_once(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        files.write_text(tmp_path / "a.txt", "a")
    assert list(tmp_path.iterdir()) == []
