"""What a request means, and what its runs' folders hold."""

import json
import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from records import write_run

from cifar_report.cli import main
from cifar_report.data import sources
from cifar_report.data.cache import load_images
from cifar_report.execution import plan, verify
from cifar_report.execution.kernel import notebook_executor
from cifar_report.execution.plan import make_plan
from cifar_report.execution.verify import verify_runs
from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.records.key import run_key
from cifar_report.records.record import (
    CHECKPOINT,
    PROGRESS,
    ErrorRecord,
    KeyFacts,
    Progress,
    read_record,
    run_folder,
    write_record,
)
from cifar_report.report.export import make_report
from cifar_report.training import weights

FACTS = {"data": "ab" * 32, "weights": "ef" * 32}  # of the made-up records


@pytest.fixture(autouse=True)
def _the_torch_of_the_records(monkeypatch):
    monkeypatch.setattr(plan, "version", lambda name: "2.11.0+cu130")


def planned(output, experiment="EXP011", **given):
    (run,) = make_plan([experiment], **{"profile": "full", "output_dir": output, **given})
    return run


def complete_run(output, experiment="EXP011", **changes):
    """Leave a complete run on real data and with real weights, as this version would have made it."""
    run = planned(output, experiment, read_only=True)
    record = write_run(output, experiment)
    theirs = FACTS["weights"] if record.weights else None
    facts = KeyFacts(**{**run.facts.model_dump(), "data": FACTS["data"], "weights": theirs, **changes})
    write_record(run.folder, record.model_copy(update={"key": run_key(run.parameters, facts), "key_facts": facts}))
    header = ",".join(record.epochs[0].model_dump())
    rows = [",".join(map(str, epoch.model_dump().values())) for epoch in record.epochs]
    (run.folder / "history.csv").write_text("\n".join([header, *rows, ""]))
    (run.folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return run


def test_without_experiments_the_quickest_run_is_verified(tmp_path, no_data, monkeypatch):
    tried, runs = [], []
    monkeypatch.setattr(verify, "_verify", lambda run, record: tried.append(run.name) or True)
    for name, seconds in (("EXP003", 30.0), ("EXP004", 10.0), ("EXP005", 20.0)):
        run = complete_run(tmp_path, name)
        record = read_record(run.folder)
        took = record.seconds.model_copy(update={"total": seconds})
        write_record(run.folder, record.model_copy(update={"seconds": took}))
        runs.append(replace(run, problems={}, facts=record.key_facts))
    assert verify_runs(runs, named=False)
    assert tried == ["EXP004 seed 0"]
    assert verify_runs(runs, named=True)
    assert len(tried) == 4


def test_verifying_has_the_records_threads_and_leaves_the_backup_alone(tmp_path, no_data, monkeypatch):
    def again(repeated):
        seen.append((os.environ.get("CIFAR_REPORT_BACKUP"), os.environ["OMP_NUM_THREADS"]))
        return write_run(Path(repeated.parameters.output_dir), "EXP011")

    seen = []
    run = complete_run(tmp_path)
    run = replace(run, problems={}, facts=read_record(run.folder).key_facts)
    monkeypatch.setattr(verify, "execute_run", again)
    with mock.patch.dict(os.environ, {"CIFAR_REPORT_BACKUP": str(tmp_path / "drive")}):
        before = dict(os.environ)
        assert verify_runs([run], named=True)
        assert dict(os.environ) == before
    assert seen == [(None, "2")]


def test_what_is_not_at_hand_is_no_obstacle_to_looking(tmp_path, no_data, monkeypatch):
    with pytest.raises(RequestError, match="CIFAR-10 is not on this machine"):
        planned(tmp_path)
    run = complete_run(tmp_path)
    assert set(run.problems) == {"data", "weights"}
    state = run.state()
    absent = "its data and weights are not on this machine and were not compared"
    assert (state.status, state.reason) == ("complete", absent)
    for installed, devices in (("2.14.1", []), ("2.11.0", ["0"])):  # neither is in the key
        monkeypatch.setattr(plan, "version", lambda name, installed=installed: installed)
        monkeypatch.setattr(plan, "gpus", lambda devices=devices: devices)
        assert run.state().reason == f"{absent}; computed with torch 2.11.0 on A Processor"
    complete_run(tmp_path, library="cd" * 32)
    assert run.state().reason == "the library's code changed"
    complete_run(tmp_path, "EXP003")
    run_folder(tmp_path, "EXP003", 0).rename(run_folder(tmp_path, "EXP003", 1))  # by hand: the report leaves it out
    moved = planned(tmp_path, "EXP003", read_only=True, seeds=[1])
    assert moved.state().reason == "its record is of another experiment, seed or fold"
    assert planned(tmp_path, "EXP001", read_only=True).state().status == "missing"


def test_stand_ins_do_not_replace_what_was_made_with_the_real_thing(tmp_path, no_data):
    complete_run(tmp_path)
    stand_in = planned(tmp_path, overrides={"offline": "stand_in"})
    assert len(stand_in.problems) == 2
    assert stand_in.is_complete()


def test_what_was_made_with_stand_ins_is_made_again_with_the_real_thing(tmp_path, no_data):
    digits = load_images("digits")[0].sha256
    run = complete_run(tmp_path, data=digits, weights=None)
    record = json.loads((run.folder / "run.json").read_text())
    record["data"] |= {"stand_in": True, "sha256": digits}
    (run.folder / "run.json").write_text(json.dumps(record | {"weights": None}))
    assert planned(tmp_path, overrides={"offline": "stand_in"}).is_complete()
    facts = run.facts.model_copy(update=FACTS)
    real = type(run)(run.parameters, run.family, facts)
    assert real.state().reason == "the data changed; the weights changed"


def test_status_and_dry_run_need_neither_data_nor_a_writable_folder(tmp_path, no_data, capsys, monkeypatch):
    monkeypatch.setattr("cifar_report.execution.speed._measure", lambda *given: (0.0, 1.0))  # VGG-16 takes its time
    nowhere = tmp_path / "file"
    nowhere.touch()
    for words in (["status"], ["run", "--dry-run"]):
        assert main([*words, "EXP012", "--profile", "full", "--output", str(nowhere / "out")]) == 0
        out = capsys.readouterr().out
        assert "EXP012 seed 0: missing" in out
        assert "not on this machine: CIFAR-10" in out
        assert "not on this machine: ImageNet weights of vgg16" in out
    assert main(["status", "--profile", "full", "--output", str(nowhere / "out")]) == 0
    assert capsys.readouterr().out.count("CIFAR-10") == 1
    assert main(["run", "EXP012", "--profile", "full", "--output", str(nowhere / "out")]) == 2


def test_a_failure_with_other_parameters_says_so(tmp_path, no_data):
    run = complete_run(tmp_path, "EXP001")
    error = ErrorRecord(type="DivergedError", message="try a smaller lr", cell=None, cell_source=None)
    record = write_run(tmp_path, "EXP001", failed=error, parameters={"lr": 100})
    write_record(run.folder, record.model_copy(update={"key_facts": run.facts}))
    assert run.state().reason == "DivergedError: try a smaller lr (since then lr is 0.01, was 100)"


def test_unfinished_is_what_can_go_on(tmp_path, no_data):
    run = planned(tmp_path, "EXP001", read_only=True)
    assert run.state().status == "missing"
    run.folder.mkdir(parents=True)
    (run.folder / CHECKPOINT).touch()
    assert run.state().status == "missing"
    (run.folder / PROGRESS).write_text(Progress(key=run.key, epochs=12).model_dump_json())
    assert (run.state().status, run.state().reason) == ("unfinished", "after epoch 12 of 20")
    facts = run.facts.model_copy(update={"data": FACTS["data"]})  # on a machine that has the data
    there = Progress(key=run_key(run.parameters, facts), epochs=13, facts=facts)
    (run.folder / PROGRESS).write_text(there.model_dump_json())
    assert run.state().reason == "after epoch 13 of 20"
    (run.folder / PROGRESS).write_text(Progress(key="another", epochs=12, facts=facts).model_dump_json())
    assert run.state().reason == "the checkpoint there is of other parameters or code"
    (run.folder / CHECKPOINT).unlink()
    assert run.state().reason == ""


def test_a_report_leaves_no_run_of_a_newer_version_out_in_silence(tmp_path):
    write_run(tmp_path, "EXP001")
    record = run_folder(tmp_path, "EXP001", 0) / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"schema_version": 99}))
    with pytest.raises(RequestError, match="newer version of cifar-report"):
        make_report(tmp_path, executor=notebook_executor, profile="full")


def test_looking_fetches_nothing_and_spoils_no_later_download(tmp_path, no_data, server, monkeypatch):
    monkeypatch.setattr(sources, "ARCHIVE_URL", f"{server.url}cifar-10-python.tar.gz")
    monkeypatch.setattr(sources, "MIRROR_URL", server.url)
    monkeypatch.setattr(weights, "DOWNLOADS", {n: f"{server.url}{n}-00000000.pth" for n in weights.DOWNLOADS})
    assert len(make_plan(profile="full", output_dir=tmp_path, read_only=True)) == len(load_catalog().entries)
    assert server.requests == []
    with pytest.raises(RequestError) as refused:
        planned(tmp_path)
    assert "switched off" not in str(refused.value)
    assert any("cifar-10-python" in request for request in server.requests)
    _, _, warning = weights.find_weights(planned(tmp_path, overrides={"offline": "stand_in"}).parameters)
    assert warning is not None
    assert any("resnet18" in request for request in server.requests)


def test_a_copy_that_is_not_mounted_does_not_keep_from_looking(tmp_path, no_data, monkeypatch):
    run = complete_run(tmp_path)
    monkeypatch.setenv("CIFAR_REPORT_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CIFAR_REPORT_WEIGHTS", str(tmp_path / "nowhere"))
    assert planned(tmp_path, read_only=True).state() == run.state()


def test_real_results_are_not_verified_with_stand_ins(tmp_path, no_data, said):
    complete_run(tmp_path)
    with pytest.raises(RequestError, match="nothing to verify"):
        verify_runs([planned(tmp_path, overrides={"offline": "stand_in"})], named=True)
    assert said() == [
        "EXP011 seed 0: cannot be verified here: its data and weights are not on this machine and were not compared"
    ]


def test_a_triangle_of_three_steps_is_refused(tmp_path):
    few = {"dataset": "digits", "epochs": "3", "batch_size": "4096", "schedule": "triangular"}
    with pytest.raises(RequestError, match="schedule=triangular cannot have three training steps"):
        planned(tmp_path, "EXP000", overrides=few)
    assert planned(tmp_path, "EXP000", overrides=few | {"schedule": "constant"}).parameters.epochs == 3
    assert planned(tmp_path, "EXP000", overrides=few | {"epochs": "4"}).parameters.epochs == 4
    stray = {"dataset": "digits", "epochs": "1", "batch_size": "64", "schedule": "triangular"}
    assert planned(tmp_path, "EXP000", overrides=stray | {"train_limit": "129"}).parameters.train_limit == 129  # two
    with pytest.raises(RequestError, match="three training steps"):  # the last image joins the third batch
        planned(tmp_path, "EXP000", overrides=stray | {"train_limit": "193"})


@pytest.mark.parametrize(("again", "reproduces"), [(0.69, True), (0.67, False)])
def test_on_another_machine_an_accuracy_within_two_points_reproduces(tmp_path, monkeypatch, again, reproduces, said):
    """Two runs that do not agree to the last bit, on different devices."""
    run = complete_run(tmp_path)
    record = read_record(run.folder)
    environment = record.environment.model_copy(update={"device": "cuda:0"})
    write_record(run.folder, record.model_copy(update={"environment": environment}))
    run = replace(run, problems={}, facts=record.key_facts)  # as where data and weights are
    monkeypatch.setattr(
        verify, "execute_run", lambda repeated: write_run(Path(repeated.parameters.output_dir), "EXP011", again)
    )
    with mock.patch.dict(os.environ):
        assert verify_runs([run], named=True) is reproduces
        missing = replace(run, parameters=run.parameters.model_copy(update={"seed": 1}))
        assert verify_runs([run, missing], named=True) is False
    word = "reproduces" if reproduces else "does not reproduce"
    assert f"EXP011 seed 0: {word} within 2 points" in said()[0]
