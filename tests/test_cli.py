import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from records import write_run

from cifar_report import __version__, cli
from cifar_report.cli import main
from cifar_report.experiments.catalog import Statement, load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.records.files import CHECKPOINT, PROGRESS, write_text
from cifar_report.records.lock import folder_lock
from cifar_report.records.record import Progress, run_folder, write_record

QUICK = {"train_limit": 5000, "test_limit": 500, "epochs": 5, "offline": "stand_in"}


def test_list_shows_every_experiment_with_what_differs(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for text in (
        "EXP000",
        "EXP020",
        "frozen_transfer",
        "EXP001 with init=kaiming_normal",
        "95.28",
        "trainable=last_two_layers",
    ):
        assert text in out


def test_parameters_are_explained(capsys):
    assert main(["parameters"]) == 0
    out = capsys.readouterr().out
    assert "lr (default: 0.01)" in out
    assert "learning rate at the start" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "EXP099", "--profile", "quick"], "unknown experiment 'EXP099'"),
        (["run", "EXP003", "--profile", "quick", "--set", "epochs=1", "lr=0.02"], "setting, not an experiment"),
        (["run", "EXP003", "--profile", "quik"], "did you mean 'quick'"),
        (["run", "EXP003", "--profile", "quick", "--set", "epoch=3"], "did you mean 'epochs'"),
        (["run", "EXP003", "--profile", "quick", "--set", "epochs"], "key=value"),
        (["run", "EXP003", "--profile", "quick", "--set", "lr=fast"], "'lr'"),
        (["run", "EXP003", "--profile", "quick", "--set", "fold=1"], "needs fold (from 0) and folds"),
        (["run", "EXP014", "--profile", "quick", "--set", "weights=null"], "must be pretrained"),
        (["run", "EXP007", "--profile", "quick", "--set", "nesterov=true"], "nesterov belongs to sgd"),
        (["run", "EXP003", "--profile", "quick", "--seeds", "a"], "whole numbers"),
        (["run", "EXP003", "--profile", "quick", "--seeds", ""], "whole numbers"),
        (["run", "EXP003", "--profile", "quick", "--seeds", "1,0-3"], "twice"),
        (["run", "EXP003", "--profile", "quick", "--seeds", "9-3"], "not '9-3'"),
        (["run", "EXP003", "--profile", "quick", "--seeds", "0-1000000000"], "up to 10,000 long"),
        (["run", "EXP003", "--profile", "quick", "--set", "device=cuda:1"], "CUDA_VISIBLE_DEVICES"),
        (["report", "EXP003", "--profile", "quick", "--set", "model=lenett"], "did you mean 'lenet'"),
        (["report", "--profile", "quick", "--no-run", "--set", "epochs=3"], "--no-run executes none"),
        (["predict", "x.jpg", "--experiment", "EXP003-EXP006", "--profile", "quick"], "predict takes one experiment"),
        (
            ["report", "--profile", "quick", "--output", "/dev/null/x", "--no-run"],
            f"there is no folder {Path('/dev/null/x')}",
        ),
        (
            ["report", "--profile", "quick", "--output", "typo/quick", "--no-run"],
            f"there is no folder {Path('typo/quick')}",
        ),
        (["status", "EXP003", "--profile", "quick", "--set", "dataset=folder data_dir=/nowhere"], "does not exist"),
        (
            ["run", "EXP000", "--dry-run", "--profile", "quick", "--set", "dataset=digits validation=holdout"],
            "holdout_size",
        ),
        (["run", "EXP003", "--profile", "quick", "--ray-address", "x:1"], "--ray-address requires --executor ray"),
    ],
)
def test_wrong_request_is_one_sentence_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("cifar-report: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command"),
        (["runn"], "No such command 'runn'"),
        (["run", "--profil", "quick"], "No such option"),
        (["run", "--jobs", "0"], "--jobs"),
        (["run", "--jobs", "two"], "--jobs"),
        (["run", "--runs-per-gpu", "0"], "--runs-per-gpu"),
        (["run", "--executor", "slurm"], "--executor"),
        (["predict", "x.jpg"], "experiment"),
        (["diff", "EXP003"], "AFTER"),
    ],
)
def test_wrong_usage_is_explained_on_stderr_with_exit_code_2(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_an_error_of_the_system_is_one_line_and_exit_code_2(capsys, monkeypatch):
    def refused():
        raise PermissionError(13, "Permission denied", "runs")

    monkeypatch.setattr(cli, "load_catalog", refused)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == "cifar-report: [Errno 13] Permission denied: 'runs'\n"


@pytest.mark.parametrize(
    "words",
    [["show"], ["report", "--no-run"], ["predict", "a.png", "--experiment", "EXP003"], ["diff", "EXP003", "EXP004"]],
)
def test_the_home_folder_is_found_where_the_shell_leaves_its_sign(words, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main([*words, "--output=~/runs", "--profile", "quick"]) == 2
    assert f"{tmp_path / 'runs'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["show"], ["report"], ["predict", "a.png", "--experiment", "EXP003"], ["diff", "EXP003", "EXP004"]]
)
def test_an_unknown_profile_is_named_whatever_the_command(words, capsys):
    assert main([*words, "--profile", "quik"]) == 2
    assert capsys.readouterr().err == "cifar-report: unknown profile 'quik'; did you mean 'quick'?\n"


def test_interrupt_is_reported_and_exits_with_130(capsys, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_catalog", interrupted)
    assert main(["list"]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_status_names_who_executes_a_run(capsys, tmp_path):
    with folder_lock(tmp_path / "runs" / "exp003" / "seed-0"):
        assert main(["status", "EXP003", "--profile", "quick", "--output", str(tmp_path)]) == 0
    assert f"EXP003 seed 0: missing: process {os.getpid()} on " in capsys.readouterr().out
    (run,) = cli.requested(["EXP003"], "quick", None, tmp_path).plan(read_only=True)
    progress = Progress(key=run.key, epochs=2)
    write_text(run.folder / PROGRESS, progress.model_dump_json())
    (run.folder / CHECKPOINT).touch()
    with folder_lock(tmp_path / "runs" / "exp003" / "seed-0"):
        assert main(["status", "EXP003", "--profile", "quick", "--output", str(tmp_path)]) == 0
    assert "EXP003 seed 0: unfinished: after epoch 2 of 5; process " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "verify"])
def test_a_folder_is_looked_at_with_the_profile_of_its_runs(tmp_path, monkeypatch, capsys, command):
    def requested(experiments, profile, *rest):
        raise RequestError(f"with the profile {profile}")

    monkeypatch.setattr(cli, "requested", requested)
    for name in ("reference", "mine"):
        write_run(tmp_path / name, "EXP003", parameters=QUICK if name == "mine" else {})
        assert main([command, "--output", str(tmp_path / name)]) == 2
    assert main([command, "--output", str(tmp_path / "mine"), "--profile", "full"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[-1] for line in said] == ["reference", "quick", "full"]


def test_seeds_are_numbers_and_ranges():
    assert cli.requested(None, "quick", "3, 0-2,10 - 11", None).seeds == (3, 0, 1, 2, 10, 11)


def test_an_internal_error_is_a_plain_traceback(monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "load_catalog", broken)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


@pytest.mark.parametrize(("command", "code"), [("parameters", 0), ("verify", 1)])
def test_a_closed_pipe_is_no_error_of_commands_that_only_show(command, code):
    script = (
        "import sys; from cifar_report import cli; from cifar_report.execution import verify\n"
        "cli.requested = lambda *given: cli.Request((), 'quick', (0,), {}, None)\n"
        "cli.Request.plan = lambda request: print('x' * 100_000)\n"
        f"sys.exit(cli.main([{command!r}]))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, "-u", "-c", script], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cifar-report {__version__}\n"


def test_show_tells_what_a_run_did(capsys, tmp_path):
    write_run(tmp_path, "EXP003", 0.76)
    assert main(["show", "EXP003", "--profile", "full", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "EXP003 seed 0: 76.00% of 1,000 test images" in out
    assert "init=xavier_uniform" in out
    assert out.count("epoch ") == 4
    record = write_run(tmp_path, "EXP004", 0.7, seed=3)
    folder = run_folder(tmp_path, "EXP004", 3).parent.rename(tmp_path / "runs" / "exp004-lr-0_02")
    write_record(folder / "seed-3", record.model_copy(update={"experiment": "EXP004-LR-0_02"}))
    assert main(["show", "--profile", "full", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "EXP003 seed 0: 76.00%" in out
    assert "EXP004-LR-0_02 seed 3: 70.00%" in out
    assert main(["show", "EXP004", "--profile", "full", "--output", str(tmp_path)]) == 2
    assert "no record of these runs" in capsys.readouterr().err


def test_diff_of_two_experiments_has_the_differences_interval(capsys, tmp_path):
    for name, accuracy in (("EXP003", 0.70), ("EXP004", 0.75)):
        for seed in (0, 1, 2):
            write_run(tmp_path, name, accuracy + seed / 100, seed=seed)
    assert main(["diff", "EXP003", "EXP004", "--output", str(tmp_path)]) == 0
    low, high = re.search(r"\+5\.00 \((\S+) to (\S+)\)", capsys.readouterr().out).groups()
    assert float(low) < 5 < float(high)
    assert main(["diff", "EXP003", "EXP04", "--output", str(tmp_path)]) == 2
    assert "unknown experiment 'EXP04'" in capsys.readouterr().err


@pytest.mark.parametrize(("devices", "profile", "count"), [(("0",), "full", "a"), ((), "quick", "no")])
def test_the_profile_is_full_where_there_is_a_gpu_else_quick_and_is_said_first(
    monkeypatch, capsys, devices, profile, count
):
    monkeypatch.setattr("cifar_report.execution.resources.gpus", lambda: devices)
    request = cli.requested(["EXP003"], None, None, None)
    assert (request.profile, request.output_dir) == (profile, Path("outputs", profile))
    said = capsys.readouterr().err
    assert said == f"profile {profile}, because there is {count} GPU; choose another with --profile\n"


def test_a_report_of_no_runs_replaces_none(capsys, tmp_path, monkeypatch):
    run = write_run(tmp_path, "EXP003", 0.76)
    assert main(["report", "EXP004", "--no-run", "--output", str(tmp_path)]) == 2
    assert "there are no runs of these in" in capsys.readouterr().err
    (tmp_path / "runs" / "exp003").rename(tmp_path / "runs" / "exp004-lr-0_02")  # a sweep's, of EXP004
    swept = run.model_copy(update={"experiment": "EXP004-LR-0_02"})
    write_record(run_folder(tmp_path, swept.experiment, 0), swept)
    written = []
    monkeypatch.setattr("cifar_report.report.export.make_report", lambda *args, **more: written.append(more) or "page")
    assert main(["report", "EXP004", "--no-run", "--output", str(tmp_path)]) == 0
    assert main(["report", "EXP004-LR-0_02", "--no-run", "--output", str(tmp_path)]) == 0
    assert [more["experiments"] for more in written] == [("EXP004",), ("EXP004-LR-0_02",)]
    assert main(["report", "--no-run", "--seeds", "7", "--output", str(tmp_path)]) == 2  # the last report stays
    assert len(written) == 2


def test_an_experiment_is_reported_beside_what_it_builds_on(tmp_path, monkeypatch):
    """Where that has a run in the same folder: both build on EXP001."""
    for name in ("EXP001", "EXP003", "EXP004"):
        write_run(tmp_path, name)
    written = []
    monkeypatch.setattr("cifar_report.report.export.make_report", lambda *args, **more: written.append(more) or "page")
    for words in (["EXP004"], ["EXP003-EXP004"], ["EXP005"], []):
        assert main(["report", *words, "--no-run", "--output", str(tmp_path)]) == (2 if words == ["EXP005"] else 0)
    assert [more["experiments"] for more in written] == [("EXP004", "EXP001"), ("EXP003", "EXP004", "EXP001"), ()]


def test_a_statement_on_an_unknown_measure_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    one = Statement(of="EXP003", says="It is fast.", measure="accurracy", margin=1, contrasts=["EXP003 > EXP001"])
    only = load_catalog().model_copy(update={"statements": [one]})
    monkeypatch.setattr("cifar_report.journal.statements.load_catalog", lambda: only)
    assert main(["report", "EXP003", "--profile", "quick", "--output", str(tmp_path / "out")]) == 2
    assert "unknown measure 'accurracy' in params/journal.yaml; did you mean 'accuracy'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_show_a_sign_has_another_in_its_place(tmp_path):
    for name, accuracy in (("EXP003", 0.76), ("EXP004", 0.71)):
        write_run(tmp_path, name, accuracy)
    command = [sys.executable, "-m", "cifar_report", "diff", "EXP003", "EXP004", "--output", str(tmp_path)]
    shown = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True)
    assert shown.returncode == 0
    assert b"?5.00" in shown.stdout  # a minus sign elsewhere


def test_what_was_to_be_holdout_is_not_asked_of_a_stand_in(capsys, tmp_path, no_data):
    command = ["status", "EXP003", "--profile", "full", "--set", "validation=holdout", "--output", str(tmp_path)]
    assert main(command) == 0
    assert "not on this machine: CIFAR-10" in capsys.readouterr().out


def test_recorded_runs_tell_their_profile(tmp_path):
    assert cli._recorded_profile(tmp_path) is None
    write_run(tmp_path, "EXP003", 0.76)
    assert cli._recorded_profile(tmp_path) in ("full", "reference")
    write_run(tmp_path, "EXP003", 0.76, parameters=QUICK)
    assert cli._recorded_profile(tmp_path) == "quick"


def test_dry_run_and_status_execute_nothing(capsys, tmp_path):
    command = ["EXP003", "--profile", "quick", "--output", str(tmp_path / "out"), "--set", "dataset=digits"]
    assert main(["run", "--dry-run", *command]) == 0
    out = capsys.readouterr().out
    assert re.match(r"EXP003 seed 0: missing, about \d+ s\n1 run to execute: about \d+ s one after the other", out)
    assert main(["status", *command]) == 0
    assert capsys.readouterr().out == "EXP003 seed 0: missing\n1 missing\n"
    assert list(tmp_path.iterdir()) == []


def test_fetch_says_what_there_is_and_runs_nothing(capsys, tmp_path, no_data, monkeypatch):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "resnet18.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("CIFAR_REPORT_WEIGHTS", str(weights))
    command = ["fetch", "EXP011", "EXP012", "--profile", "quick", "--output", str(tmp_path / "out")]
    assert main(command) == 1
    out = capsys.readouterr().out
    digest = hashlib.sha256(b"weights").hexdigest()
    assert f"imagenet weights of resnet18: local file, SHA-256 {digest}" in out
    assert "WARNING: CIFAR-10 not found" in out
    assert "WARNING: No ImageNet weights found for vgg16" in out
    assert main([*command, "--set", "offline=fail"]) == 2
    told = capsys.readouterr()  # all that is there, and all that is missing
    assert f"imagenet weights of resnet18: local file, SHA-256 {digest}" in told.out
    assert "CIFAR-10 is not on this machine" in told.err
    assert "No ImageNet weights found for vgg16" in told.err
    assert main([*command, "--set", "lr=-1"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").write_text("no folder")  # nor need there be one
    assert main(["fetch", "EXP003", "--profile", "quick", "--set", "dataset=digits"]) == 0
    assert not (tmp_path / "out").exists()


EVERY = list(typer.main.get_command(cli.app).commands)


@pytest.mark.parametrize("command", [[], *([name] for name in EVERY)])
def test_every_command_has_help_with_examples(capsys, command):
    assert main([*command, "--help"]) == 0
    assert re.search(rf"Examples:\s+cifar-report {' '.join(command)}", capsys.readouterr().out)


@pytest.mark.parametrize("command", ["--help", "list", "status"])
def test_help_list_and_status_answer_without_torch(command, tmp_path):
    words = [command, *(["--profile", "quick", "--output", str(tmp_path)] if command == "status" else [])]
    code = f"import sys; from cifar_report.cli import main; assert main({words!r}) == 0\n"
    slow = {"torch"} if command == "status" else {"torch", "pandas", "matplotlib", "papermill", "scipy"}
    code += f"slow = {slow!r} & set(sys.modules); assert not slow, slow"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = sum(os.times()[2:4]) - sum(
        before[2:4]
    )  # seconds of processor time: other work on the machine does not count
    assert used < (60 if command == "status" else 5)


def test_a_report_of_recorded_runs_is_of_the_profile_that_their_folder_names(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "full", "EXP003")
    asked = {}
    monkeypatch.setattr("cifar_report.report.export.make_report", lambda folder, **given: asked.update(given) or folder)
    assert main(["report", "--output", str(tmp_path / "full"), "--no-run"]) == 0
    assert asked["profile"] == "full"
    assert "because there is" not in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1])
def test_a_report_is_made_of_failed_runs_too_and_its_exit_code_says_so(tmp_path, monkeypatch, capsys, code):
    monkeypatch.setattr(cli, "_execute", lambda *given: code)
    monkeypatch.setattr("cifar_report.report.export.make_report", lambda *given, **more: "page.html")
    assert main(["report", "EXP000", "--profile", "quick", "--output", str(tmp_path / "out")]) == code
    assert "report: page.html" in capsys.readouterr().out


@pytest.mark.parametrize(("reproduces", "code"), [(True, 0), (False, 1)])
def test_verify_says_by_its_exit_code_whether_runs_reproduce(tmp_path, monkeypatch, reproduces, code):
    monkeypatch.setattr("cifar_report.execution.verify.verify_runs", lambda plan, named: reproduces)
    command = ["verify", "EXP000", "--profile", "quick", "--set", "dataset=digits", "--output", str(tmp_path / "out")]
    assert main(command) == code


def test_show_takes_seeds(tmp_path, capsys):
    for seed in (0, 1):
        write_run(tmp_path, "EXP003", seed=seed)
    assert main(["show", "EXP003", "--profile", "quick", "--seeds", "1", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "EXP003 seed 1: " in out
    assert "EXP003 seed 0: " not in out


def test_a_gpu_that_is_asked_for_and_not_there_is_missed_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cifar_report.execution.plan.gpus", tuple)
    settings = ["--set", "device=cuda dataset=digits", "--output", str(tmp_path / "out")]
    assert main(["run", "EXP000", "--profile", "quick", *settings]) == 2
    assert "this machine has no NVIDIA GPU" in capsys.readouterr().err


def test_show_asks_for_no_profile_where_the_folder_is_named(tmp_path, capsys):
    write_run(tmp_path, "EXP003")
    assert main(["show", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
