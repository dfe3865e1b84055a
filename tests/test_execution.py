import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from records import write_run

from cifar_report.execution import resources, worker
from cifar_report.execution.execute import execute_plan, missing_runs
from cifar_report.execution.kernel import notebook_executor
from cifar_report.execution.plan import longest_first, make_plan
from cifar_report.execution.resources import cores, default_jobs, gpus, slot_environments
from cifar_report.execution.verify import verify_runs
from cifar_report.execution.worker import BROKEN, BUSY, Worker, _work, execute_run
from cifar_report.experiments.catalog import Family, load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import MODELS, validate
from cifar_report.journal.journal import Journal
from cifar_report.records.key import key_facts
from cifar_report.records.lock import is_locked, release_lock
from cifar_report.records.predictions import read_predictions
from cifar_report.records.record import RESUMED_ELSEWHERE, read_record, run_folder, write_record
from cifar_report.report.export import make_report
from cifar_report.run import Run
from cifar_report.training.build import build_model
from cifar_report.training.cost import forward_flops

REAL_BASELINE = load_catalog().family_named("baseline").notebook_path
TINY = {"dataset": "digits", "train_limit": "64", "test_limit": "30", "epochs": "1"}


def plan(tmp_path, *experiments, **given):
    options = {"profile": "quick", "overrides": TINY, "output_dir": tmp_path / "out", **given}
    return make_plan(experiments, **options)


def test_plan_is_every_experiment_with_every_seed_in_order(tmp_path):
    runs = plan(tmp_path, "EXP003-EXP004", seeds=[0, 2])
    assert [run.name for run in runs] == ["EXP003 seed 0", "EXP003 seed 2", "EXP004 seed 0", "EXP004 seed 2"]
    assert len({run.key for run in runs}) == 4
    assert len(plan(tmp_path)) == len(load_catalog().entries)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"overrides": {"epoch": "3"}}, "did you mean 'epochs'"),
        ({"overrides": {"seed": "3"}}, "use --seeds"),
        ({"overrides": {"output_dir": "x"}}, "use --output"),
        ({"overrides": {"holdout_size": "60000", "validation": "holdout", "dataset": "digits"}}, "holdout_size"),
        ({"profile": "slow"}, "unknown profile"),
        ({"seeds": [-1]}, "'seed'"),
    ],
)
def test_wrong_request_writes_nothing(tmp_path, given, message):
    with pytest.raises(RequestError, match=message):
        plan(tmp_path, "EXP003", **given)
    assert list(tmp_path.iterdir()) == []


def test_one_wrong_experiment_stops_the_whole_request(tmp_path):
    with pytest.raises(RequestError, match="nesterov belongs to sgd"):
        plan(tmp_path, "EXP003", "EXP007", overrides={**TINY, "nesterov": "true"})
    assert list(tmp_path.iterdir()) == []


def test_missing_data_is_found_before_anything_runs(tmp_path, no_data):
    with pytest.raises(RequestError, match="CIFAR-10 is not on this machine"):
        plan(tmp_path, "EXP003", overrides={"offline": "fail"})
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RequestError, match="Not a directory"):
        plan(tmp_path, "EXP003")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="the superuser may write anywhere")
def test_output_without_permission_is_refused(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RequestError, match="Permission denied"):
        plan(tmp_path, "EXP003")


@pytest.fixture
def short_notebook(tmp_path, monkeypatch):
    """The baseline's notebook reduced to what a run needs; its last cell does what a test wants."""

    def make(last: str, *, after_record: bool = False) -> None:
        notebook = nbformat.read(load_catalog().family_named("baseline").notebook_path, as_version=4)
        keep = {"parameters", "start", "data", "model", "training", "results", "record"}
        notebook.cells = [cell for cell in notebook.cells if cell.id in keep]
        where = len(notebook.cells) if after_record else len(notebook.cells) - 1
        notebook.cells.insert(where, nbformat.v4.new_code_cell(last))
        path = tmp_path / "short.ipynb"
        nbformat.write(notebook, path)
        monkeypatch.setattr(Family, "notebook_path", path)

    return make


def visible(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.slow
def test_complete_run_is_not_executed_again_and_a_changed_or_damaged_one_is(tmp_path, capfd):
    (record,) = execute_plan(plan(tmp_path, "EXP000"))
    assert record.status == "completed"
    out, err = capfd.readouterr()
    said = out.splitlines()
    assert said[0] == "1 run planned, 0 complete, 1 to execute"
    assert "of 30 test images" in said[1]
    assert err == ""
    folder = tmp_path / "out" / "runs" / "exp000" / "seed-0"
    assert visible(folder) == {"run.json", "history.csv", "predictions.npz", "model.safetensors", "notebook.ipynb"}
    executed = json.loads((folder / "notebook.ipynb").read_text())
    assert executed["metadata"]["kernelspec"]["name"] == "python3"
    assert record.key == plan(tmp_path, "EXP000")[0].key

    assert execute_plan(plan(tmp_path, "EXP000")) == []
    assert capfd.readouterr().out.splitlines()[-1] == "1 run planned, 1 complete, 0 to execute"

    def state(**given):
        found = plan(tmp_path, "EXP000", **given)[0].state()
        return f"{found.status}: {found.reason}"

    assert state() == "complete: "
    assert state(overrides={**TINY, "lr": "0.02"}) == "stale: lr is 0.02, was 0.01"
    missing_runs(plan(tmp_path, "EXP000", overrides={**TINY, "lr": "0.02"}))
    assert capfd.readouterr().out.splitlines() == [
        "EXP000 seed 0: its earlier result will be replaced (lr is 0.02, was 0.01)",
        "1 run planned, 0 complete, 1 to execute",
    ]
    flipped = bytearray((folder / "predictions.npz").read_bytes())
    flipped[200] ^= 1  # within the logits, most of the file
    history = (folder / "history.csv").read_bytes()
    contrary = json.dumps(
        json.loads((folder / "run.json").read_text()) | {"test": record.test.model_dump() | {"accuracy": 0.99}}
    ).encode()
    for name, damage, message in [
        ("predictions.npz", b"", "predictions.npz is missing or damaged"),
        ("predictions.npz", flipped, "predictions.npz is missing or damaged"),
        (
            "history.csv",
            b"epoch,validation_loss\n1,0.5\n",
            "history.csv is missing or damaged, or contradicts run.json",
        ),
        (
            "history.csv",
            history.replace(b"0.01", b"0.02"),
            "history.csv is missing or damaged, or contradicts run.json",
        ),
        ("model.safetensors", b"garbage", "model.safetensors is damaged"),
        ("run.json", contrary, "run.json contradicts itself"),
        ("run.json", b"{", "its record cannot be read"),
    ]:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(damage)
        assert state() == f"stale: {message}"
        (folder / name).write_bytes(content)
    assert state() == "complete: "
    (folder / "model.safetensors").rename(folder / "elsewhere")  # records are kept and shared without them
    assert state() == "complete: its trained weights are not stored here"
    (folder / "elsewhere").rename(folder / "model.safetensors")

    (folder / "predictions.npz").write_bytes(b"")
    (repaired,) = execute_plan(plan(tmp_path, "EXP000"))
    assert repaired.test == record.test
    assert state() == "complete: "

    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**content, "schema_version": 99, "something": "new"}))
    before = (folder / "run.json").read_bytes()
    with pytest.raises(RequestError, match="newer version of cifar-report"):
        execute_plan(plan(tmp_path, "EXP000", "EXP003"))
    assert not run_folder(tmp_path / "out", "EXP003", 0).exists()  # refused before anything is executed
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.slow
def test_failed_run_is_recorded_and_does_not_stop_the_others(tmp_path, said):
    wild = {**TINY, "lr": "100", "momentum": "0.99", "batch_size": "4"}
    runs = [*plan(tmp_path, "EXP000", seeds=[0], overrides=wild), *plan(tmp_path, "EXP000", seeds=[1])]
    failed, done = execute_plan(runs)
    assert (failed.status, done.status) == ("failed", "completed")
    on_disk = read_record(tmp_path / "out" / "runs" / "exp000" / "seed-0")
    assert on_disk is not None
    assert on_disk.status == "failed"
    assert on_disk.error is not None
    assert on_disk.error.type == "DivergedError"
    assert "try a smaller lr than 100" in on_disk.error.message
    assert on_disk.error.cell_source == "history = run.train()"
    assert f"FAILED in cell {on_disk.error.cell}: DivergedError" in said()[1]
    journal = Journal(tmp_path / "out")
    assert [run.seed for run in journal.results["EXP000"].runs] == [1]
    assert plan(tmp_path, "EXP000", overrides=wild)[0].state().status == "diverged"
    assert execute_plan(runs) == [on_disk]  # nothing is trained twice
    *_, why, counts = said()
    assert why.startswith("EXP000 seed 0: diverged before, and is not trained again")
    assert counts == "2 runs planned, 1 complete, 1 diverged, 0 to execute"
    milder = plan(tmp_path, "EXP000", overrides={**wild, "lr": "0.001"})[0].state()
    assert (milder.status, "since then lr is 0.001, was 100" in milder.reason) == ("failed", True)


@pytest.mark.slow
def test_error_in_a_cell_is_recorded_with_the_cell(tmp_path, short_notebook):
    short_notebook('raise ValueError("<script>no</script>")')
    record = execute_run(plan(tmp_path, "EXP000")[0])
    assert record.error is not None
    assert (record.error.type, record.error.message) == ("ValueError", "<script>no</script>")
    assert record.error.cell_source == 'raise ValueError("<script>no</script>")'
    assert record.error.cell == 8  # as numbered in the executed notebook, the injected parameters counted


@pytest.mark.slow
@pytest.mark.parametrize("end", ['raise ValueError("a plot")', "import os; os._exit(9)"])
def test_failure_after_the_record_leaves_the_result(tmp_path, short_notebook, end):
    short_notebook(end, after_record=True)
    run = plan(tmp_path, "EXP000")[0]
    run = dataclasses.replace(
        run, facts=key_facts(run.parameters, REAL_BASELINE, run.facts.data, None)
    )  # as the kernel sees it
    record = execute_run(run)
    assert (record.status, record.key) == ("completed", run.key)
    assert "failed after the run was complete" in record.warnings[-1]


@pytest.mark.slow
def test_dead_kernel_is_a_failed_run(tmp_path, short_notebook):
    short_notebook("import os\nos._exit(9)")
    record = execute_run(plan(tmp_path, "EXP000")[0])
    assert record.status == "failed"
    assert record.error is not None
    assert "Kernel" in record.error.type


@pytest.mark.slow
def test_an_earlier_result_stays_when_the_next_is_interrupted(tmp_path, short_notebook, monkeypatch):
    (run,) = plan(tmp_path, "EXP000")
    earlier = write_run(tmp_path / "out", "EXP000")
    notebook = (run.folder / "notebook.ipynb").read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cifar_report.execution.worker.execute_notebook", interrupted)
        with pytest.raises(KeyboardInterrupt):
            execute_run(run)
    assert read_record(run.folder) == earlier
    short_notebook("1 / 0")
    failed = execute_run(run)
    assert (failed.status, failed.error.type) == ("failed", "ZeroDivisionError")
    assert read_record(run.folder) == earlier
    assert worker.Worker(run, SimpleNamespace(exitcode=0)).result() == failed
    assert {"failed.json", "failed.ipynb"} <= {path.name for path in run.folder.iterdir()}
    assert (run.folder / "notebook.ipynb").read_bytes() == notebook
    short_notebook("from cifar_report.training.loop import DivergedError; raise DivergedError('inf')")
    diverged = execute_run(run)
    assert diverged.diverged
    assert read_record(run.folder) == diverged  # which is a result of its own
    assert run.state().status == "diverged"
    assert not {"failed.json", "failed.ipynb", "checkpoint.pt"} & {path.name for path in run.folder.iterdir()}
    assert "DivergedError" in (run.folder / "notebook.ipynb").read_text()


@pytest.mark.slow
def test_notebook_that_leaves_no_record_is_a_failed_run(tmp_path, short_notebook):
    short_notebook("(run.folder / 'run.json').unlink()", after_record=True)
    record = execute_run(plan(tmp_path, "EXP000")[0])
    assert record.error is not None
    assert "without leaving a record" in record.error.message


@pytest.mark.slow
def test_braces_in_a_path_are_no_parameters_and_a_long_temporary_folder_holds_no_sockets(
    tmp_path, short_notebook, monkeypatch
):
    short_notebook("print('executed')")
    folder = tmp_path / "{seed}" / ("long" * 25)
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    run = plan(tmp_path, "EXP000", output_dir=tmp_path / "{seed}" / "out")[0]
    execute_run(run)
    assert "executed" in (run.folder / "notebook.ipynb").read_text()
    assert not (tmp_path / "0").exists()


@pytest.mark.slow
def test_kernel_is_this_environments(tmp_path, short_notebook):
    short_notebook("import sys\nprint('prefix', sys.prefix)")
    run = plan(tmp_path, "EXP000")[0]
    execute_run(run)
    assert f"prefix {sys.prefix}" in (run.folder / "notebook.ipynb").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("no_thread_variables")
def test_parallel_runs_share_the_cores_and_give_each_run_once(tmp_path, said):
    runs = plan(tmp_path, "EXP000", "EXP003-EXP005")
    records = execute_plan(runs, jobs=2)
    assert sorted(record.experiment for record in records) == ["EXP000", "EXP003", "EXP004", "EXP005"]
    assert {record.status for record in records} == {"completed"}
    share = max(1, cores() // 2)
    assert {record.environment.threads for record in records if record.environment} == {share}
    assert [line.split("]")[0] for line in said()[1:]] == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert all(run.is_complete() for run in runs)


COMMAND = [sys.executable, "-m", "cifar_report", "run", "--profile", "quick"]


def command(tmp_path, *words, **given):
    pairs = " ".join(f"{name}={value}" for name, value in {**TINY, **given}.items())
    return [*COMMAND, *words, "--output", str(tmp_path / "out"), "--set", pairs]


@pytest.mark.skipif(sys.platform != "linux", reason="imported by the fork server, on Linux")
def test_what_runs_are_forked_from_can_be_imported():
    """The fork server passes over an import that fails, and every run would import torch anew."""
    done = subprocess.run(
        [sys.executable, "-c", "import cifar_report.execution.preload"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_pipelines_on_one_folder_execute_each_run_once(tmp_path):
    runs = plan(tmp_path, "EXP000", "EXP003")
    both = [
        subprocess.Popen(command(tmp_path, "EXP000", "EXP003"), stdout=subprocess.DEVNULL, text=True) for _ in range(2)
    ]
    records = {run.name: set() for run in runs}  # each execution leaves a record of its own
    while any(process.poll() is None for process in both):
        for run in runs:
            with contextlib.suppress(FileNotFoundError):
                records[run.name].add((run.folder / "run.json").stat().st_mtime_ns)
        time.sleep(0.02)
    assert [process.returncode for process in both] == [0, 0]
    assert {name: len(written) for name, written in records.items()} == {run.name: 1 for run in runs}
    assert all(run.is_complete() for run in runs)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process group")
def test_interrupt_ends_within_seconds_leaves_no_process_and_the_run_goes_on(tmp_path):
    words = command(tmp_path, "EXP000", epochs="40", train_limit="1400", test_limit="355")
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    history = tmp_path / "out" / "runs" / "exp000" / "seed-0" / "history.csv"
    wait_for(lambda: history.exists() and len(history.read_text().splitlines()) > 3)
    others = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert "the same command continues" in err
    end_within_ten_seconds(others)
    (run,) = plan(tmp_path, "EXP000", overrides={**TINY, "epochs": "40", "train_limit": "1400", "test_limit": "355"})
    assert run.state().status == "unfinished"
    assert subprocess.run(words, capture_output=True, timeout=200).returncode == 0
    assert run.is_complete()
    assert "going on after epoch" in (run.folder / "notebook.ipynb").read_text()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_nobody_goes_on_training_when_the_command_was_killed(tmp_path, name):
    words = command(tmp_path, "EXP000", epochs="2000", train_limit="1400", test_limit="355")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    history = tmp_path / "out" / "runs" / "exp000" / "seed-0" / "history.csv"
    wait_for(lambda: history.exists() and len(history.read_text().splitlines()) > 3)
    others = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.Signals[name])
    process.wait(timeout=10)
    end_within_ten_seconds(others)


@pytest.mark.slow
def test_nobody_goes_on_training_where_there_is_no_fork(tmp_path):
    """As on Windows: workers are new processes, and none leads a session of its own."""
    (tmp_path / "main.py").write_text(
        "import multiprocessing, os, sys\n"
        "multiprocessing.get_all_start_methods = lambda: ['spawn']\n"
        "del os.setsid\n"
        "from cifar_report.cli import main\n"
        "from cifar_report.execution.kernel import ForkedKernel\n"
        "ForkedKernel.possible = lambda: False\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(main(sys.argv[1:]))\n"
    )
    words = command(tmp_path, "EXP000", epochs="2000", train_limit="1400", test_limit="355")
    words = [sys.executable, str(tmp_path / "main.py"), *words[words.index("run") :]]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    history = tmp_path / "out" / "runs" / "exp000" / "seed-0" / "history.csv"
    try:
        wait_for(lambda: history.exists() and len(history.read_text().splitlines()) > 3)
    finally:
        others = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(timeout=10)
    end_within_ten_seconds(others)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_killed_worker_is_a_failed_run_and_its_kernel_ends(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, "EXP000", epochs="2000", train_limit="1400"), stdout=subprocess.PIPE, text=True
    )
    folder = tmp_path / "out" / "runs" / "exp000" / "seed-0"
    wait_for(lambda: (folder / "history.csv").exists())
    others = psutil.Process(process.pid).children(recursive=True)
    for killed in workers(process.pid):
        os.kill(killed, signal.SIGKILL)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "FAILED: WorkerDied: the run's process was ended by SIGKILL" in out
    end_within_ten_seconds(others)


def end_within_ten_seconds(processes):
    """Nobody goes on training; a test that fails leaves nobody that does."""
    assert processes
    try:
        alive = psutil.wait_procs(processes, timeout=10)[1]
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def workers(pid):
    """Processes forked by the fork server of process `pid`."""

    def children(parent):
        listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True)
        return [line.split(maxsplit=1) for line in listed.stdout.splitlines()]

    servers = [int(child) for child, words in children(pid) if "forkserver" in words]
    return [int(child) for server in servers for child, _ in children(server)]


@pytest.mark.slow
def test_verify_trains_again_and_compares(tmp_path, said):
    execute_plan(plan(tmp_path, "EXP000", "EXP003"))
    said()
    assert verify_runs(plan(tmp_path, "EXP000", "EXP003"), named=False)
    (line,) = said()
    assert "seed 0: reproduces to the last bit" in line

    run = plan(tmp_path, "EXP000")[0]
    with np.load(run.folder / "predictions.npz") as stored:
        content = {name: stored[name] for name in stored.files}
    content["logits"][0] += 1
    np.savez(run.folder / "predictions.npz", **content)
    assert run.is_complete()  # the same predictions, but not from the same model
    assert not verify_runs([run], named=True)
    assert "does not reproduce to the last bit on the same CPU" in said()[-1]


@pytest.mark.slow
def test_verify_allows_for_a_run_that_went_on_elsewhere(tmp_path, said):
    (record,) = execute_plan(plan(tmp_path, "EXP000"))
    (run,) = plan(tmp_path, "EXP000")
    predictions = read_predictions(run.folder)
    assert predictions is not None
    predictions.logits[0] += 1
    predictions.write(run.folder / "predictions.npz")
    mixed = record.model_copy(update={"warnings": [f"{RESUMED_ELSEWHERE}: threads 2, then 1"]})
    write_record(run.folder, mixed)
    assert verify_runs([run], named=True)
    assert "reproduces within 2 points on a GPU, another machine, another version or another number" in said()[-1]


@pytest.mark.slow
def test_what_ran_otherwise_than_planned_is_a_failed_run(tmp_path):
    """As where the code changes while a plan is executed, or a node lacks the data."""
    (run,) = plan(tmp_path, "EXP000")
    record = execute_run(dataclasses.replace(run, facts=run.facts.model_copy(update={"data": "ab" * 32})))
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.message == "the run was not executed as planned: the data changed"
    assert read_record(run.folder) == record


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_its_epochs_only_and_is_told(tmp_path, interrupted, no_pdf):
    (run,) = plan(tmp_path, "EXP000", overrides={**TINY, "epochs": "4"})
    by_hand = Run.start(run.parameters.model_dump(), family=run.family.name)
    by_hand.load_dataset()
    by_hand.build_model()
    with interrupted(2):
        by_hand.train()
    release_lock(run.folder)
    assert (run.state().status, run.state().reason) == ("unfinished", "after epoch 2 of 4")
    with (run.folder / "checkpoint.pt").open("r+b") as stream:
        stream.truncate(1000)
    (record,) = execute_plan([run])
    assert (record.status, len(record.epochs)) == ("completed", 4)
    assert record.warnings[0].startswith("its checkpoint was damaged (")
    assert visible(run.folder) == {"run.json", "history.csv", "predictions.npz", "model.safetensors", "notebook.ipynb"}
    page = make_report(tmp_path / "out", executor=notebook_executor, profile="quick").read_text()
    assert "EXP000 seed 0: its checkpoint was damaged" in page


@pytest.mark.slow
def test_two_reports_at_once_are_both_right(tmp_path):
    words = [word.replace("run", "report") if word == "run" else word for word in command(tmp_path, "EXP000", "EXP003")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(out + err for out, err in told)
    assert all("report: " in out for out, _ in told)
    table = pd.read_csv(tmp_path / "out" / "report" / "results.csv")
    assert table["experiment"].tolist() == ["EXP000", "EXP003"]
    assert set(table["status"]) == {"completed"}
    page = (tmp_path / "out" / "report" / "report.html").read_text()
    accuracy = 100 * Journal(tmp_path / "out").results["EXP003"].accuracy
    assert f"<strong>{accuracy:.2f}" in page


def test_verify_needs_something_to_verify(tmp_path):
    with pytest.raises(RequestError, match="nothing to verify"):
        verify_runs(plan(tmp_path, "EXP000"), named=False)


def test_relative_costs_are_floating_point_operations():
    counted = {name: forward_flops(build_model(validate({"model": name}))[0], 32) for name in MODELS}
    assert set(resources.RELATIVE_COST) == set(counted)
    for name, cost in resources.RELATIVE_COST.items():
        assert cost == pytest.approx(counted[name] / counted["net"], rel=0.05)


def test_a_run_downloads_nothing_that_the_plan_did_not_find(tmp_path, monkeypatch):
    def started(run, environment):
        given.append(environment)
        raise KeyboardInterrupt

    given = []
    monkeypatch.delenv("CIFAR_REPORT_OFFLINE", raising=False)
    monkeypatch.setattr(Worker, "start", started)
    with pytest.raises(KeyboardInterrupt):
        execute_plan(plan(tmp_path, "EXP000"))
    assert [environment["CIFAR_REPORT_OFFLINE"] for environment in given] == ["1"]


def test_gpus_are_counted_where_a_container_lacks_the_program(tmp_path, monkeypatch):
    for bus in ("0000:17:00.0", "0000:65:00.0"):
        (tmp_path / bus).mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(resources, "Path", lambda path: tmp_path)
    assert resources.gpus.__wrapped__() == ("0", "1")


def test_a_divided_gpu_is_each_of_its_slices(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa-1)'\n"
        "echo '  MIG 3g.40gb     Device  0: (UUID: MIG-bb-1)'\n"
        "echo '  MIG 3g.40gb     Device  1: (UUID: MIG-bb-2)'\n"
        "echo 'GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-aa-2)'\n"
        "echo 'Unable to determine the device handle for gpu 0000:65:00.0: Unknown Error'\n"
    )
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert resources.gpus.__wrapped__() == ("MIG-bb-1", "MIG-bb-2", "GPU-aa-2")


@pytest.mark.parametrize(
    ("works", "error", "code"),
    [
        (False, "AcceleratorError", BROKEN),
        (False, "DivergedError", BROKEN),  # of sums that are wrong
        (True, "AcceleratorError", None),
        (False, "RequestError", None),  # out of memory, or a PyTorch that is not built for it: its sentence says more
    ],
)
def test_a_run_that_fails_asks_whether_its_gpu_works(tmp_path, monkeypatch, works, error, code):
    (run,) = plan(tmp_path, "EXP000")
    monkeypatch.setattr(worker, "gpus", lambda: ("0",))
    monkeypatch.setattr(worker, "_gpu_works", lambda: works)
    failure = worker.ErrorRecord(type=error, message="")
    monkeypatch.setattr(worker, "execute_run", lambda run, kernel: worker.write_failed_record(run, failure, 0.0))
    monkeypatch.setattr(worker, "_keep_output", lambda log: None)
    monkeypatch.setattr(worker, "end_with", lambda *processes: None)
    monkeypatch.setattr(worker.ForkedKernel, "possible", lambda: False)
    monkeypatch.setattr(os, "setsid", lambda: None)
    with pytest.raises(SystemExit) if code else contextlib.nullcontext() as ended:
        _work(run, dict(os.environ), os.getpid())
    assert ended is None or ended.value.code == code
    assert not is_locked(run.folder)
    assert run.state().status == ("missing" if (error, code) == ("DivergedError", BROKEN) else "failed")


def test_a_gpu_that_does_not_work_gets_one_run_and_the_others_get_the_rest(tmp_path, monkeypatch, said):
    runs, given = plan(tmp_path, "EXP000", seeds=[0, 1, 2, 3]), []

    def started(run, environment):
        device = environment["CUDA_VISIBLE_DEVICES"]
        given.append((run.parameters.seed, device))
        process = multiprocessing.Process(target=sys.exit, args=(BROKEN if device in broken else 0,))
        process.start()
        if device not in broken:
            write_run(tmp_path / "out", "EXP000", seed=run.parameters.seed)
        return Worker(run, process)

    monkeypatch.setattr(Worker, "start", started)
    monkeypatch.setattr("cifar_report.execution.execute.gpus", lambda: ("0", "1"))
    monkeypatch.setattr(Worker, "result", lambda self: read_record(self.run.folder))
    broken = {"1"}
    assert {record.seed for record in execute_plan(runs)} == {0, 1, 2, 3}
    assert [device for _, device in given].count("1") == 1
    assert sum("GPU 1 does not work, and is left out" in line for line in said()) == 1
    broken = {"0", "1"}
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(RequestError, match="no GPU is left that works"):
        execute_plan(runs)


def test_more_epochs_and_images_take_longer(tmp_path):
    given = {"dataset": "digits", "test_limit": "30", "epochs": "1,3", "train_limit": "64,640"}
    runs = longest_first(plan(tmp_path, "EXP000", overrides=given))
    order = [(run.parameters.epochs, run.parameters.train_limit) for run in runs]
    assert order == [(3, 640), (1, 640), (3, 64), (1, 64)]


def test_longest_runs_come_first(tmp_path):
    order = [
        run.parameters.experiment
        for run in longest_first(
            make_plan(
                profile="quick",
                output_dir=tmp_path / "out" / "quick",
                overrides={"dataset": "digits", "train_limit": "100", "epochs": "1"},
            )
        )
    ]
    assert order.index("EXP018") < order.index("EXP011") < order.index("EXP001") < order.index("EXP000")


@pytest.fixture
def no_thread_variables(monkeypatch):
    for name in resources.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_thread_variables")
@pytest.mark.parametrize(
    ("jobs", "cpus", "devices", "per_gpu", "expected"),
    [
        (1, 8, [], 1, [(None, None)]),
        (2, 8, [], 1, [("4", None), ("4", None)]),
        (3, 2, [], 1, [("1", None)] * 3),
        (1, 8, ["0"], 1, [(None, "0")]),
        (4, 16, ["0", "1"], 2, [("4", "0"), ("4", "1"), ("4", "0"), ("4", "1")]),
        (9, 16, ["2", "5"], 1, [("8", "2"), ("8", "5")]),
    ],
)
def test_slots_divide_cores_and_gpus(jobs, cpus, devices, per_gpu, expected):
    slots = slot_environments(jobs, cores=cpus, gpus=devices, runs_per_gpu=per_gpu)
    assert [(slot.get("OMP_NUM_THREADS"), slot.get("CUDA_VISIBLE_DEVICES")) for slot in slots] == expected


@pytest.mark.usefixtures("no_thread_variables")
def test_a_containers_quota_bounds_the_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)  # it knows quotas of control groups, and affinity
    assert cores() == 3
    (slot,) = slot_environments(1, cores=cores(), gpus=[])
    assert slot["OMP_NUM_THREADS"] == "3"
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    assert slot_environments(1, cores=cores(), gpus=[]) == [{}]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_that_this_process_may_not_use_do_not_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("no_thread_variables")
def test_fewer_threads_that_the_user_has_set_stay(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    slots = slot_environments(2, cores=16, gpus=[])
    assert [slot["OMP_NUM_THREADS"] for slot in slots] == ["1", "1"]
    assert slots[0]["MKL_NUM_THREADS"] == "8"


@pytest.mark.parametrize(
    ("devices", "per_gpu", "available", "expected"),
    [((), 1, 1, 1), ((), 1, 2, 2), ((), 4, 16, 2), (("0",), 1, 2, 1), (("0", "1"), 1, 16, 2), (("0", "1"), 4, 16, 8)],
)
def test_runs_at_a_time_are_what_gpus_have_room_for_or_two(devices, per_gpu, available, expected, monkeypatch):
    monkeypatch.setattr("cifar_report.execution.resources.cores", lambda: available)
    assert default_jobs(devices, per_gpu) == expected


def test_threads_do_not_depend_on_how_many_runs_are_left(tmp_path, monkeypatch):
    # With other threads a run that is executed last, after an interruption, would end with other last bits.
    asked = []
    monkeypatch.setattr("cifar_report.execution.execute.cores", lambda: 4)
    monkeypatch.setattr("cifar_report.execution.execute.gpus", lambda: ())
    monkeypatch.setattr("cifar_report.execution.resources.cores", lambda: 4)
    monkeypatch.setattr(
        "cifar_report.execution.execute.slot_environments", lambda jobs, **_: asked.append(jobs) or [{}] * jobs
    )
    monkeypatch.setattr("cifar_report.execution.execute._Crew.start_what_can_start", lambda crew: crew.waiting.clear())
    runs = plan(tmp_path, "EXP000", seeds=[0, 1, 2], overrides=TINY)
    execute_plan(runs)
    monkeypatch.setattr("cifar_report.execution.execute.missing_runs", lambda plan: (list(plan[:1]), []))
    execute_plan(runs)
    execute_plan(runs[:1])
    assert asked == [2, 2, 1]


def test_gpus_limit_the_jobs_of_runs_that_use_them_and_it_is_said(tmp_path, monkeypatch, said):
    monkeypatch.setattr("cifar_report.execution.execute.gpus", lambda: ("0",))
    monkeypatch.setattr("cifar_report.execution.execute._Crew.start_what_can_start", lambda crew: crew.waiting.clear())
    for device, told in (
        ("auto", ["1 run at a time: 1 GPU, each with room for 1 run (--runs-per-gpu)"]),
        ("cpu", []),
    ):
        runs = plan(tmp_path, "EXP000", seeds=[0, 1], overrides={**TINY, "device": device})
        execute_plan(runs, jobs=2)
        assert said()[1:] == told


def test_gpus_are_those_the_process_may_use(monkeypatch):
    for visible_devices, expected in [
        ("0,3", ("0", "3")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("GPU-8932-11e9, 1,-1,2", ("GPU-8932-11e9", "1")),
    ]:
        gpus.cache_clear()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible_devices)
        assert gpus() == expected
    gpus.cache_clear()


@pytest.mark.slow
def test_nothing_is_imported_from_the_working_directory(tmp_path):
    """The run is of the package that is installed, and not of a clone, or a file of one's own, that lies here.

    The folder for temporary files has a name too long for a socket in it.
    """
    (long := tmp_path / ("x" * 100)).mkdir()
    (tmp_path / "cifar_report").mkdir()
    for name in ("papermill.py", "cifar_report/__init__.py"):
        (tmp_path / name).write_text("raise SystemExit('of the working directory')\n")
    command = [Path(sys.executable).with_name("cifar-report"), "run", "EXP000", "--output", "out"]
    command += ["--set", "dataset=digits epochs=1 train_limit=100"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"TMPDIR": str(long)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_record(tmp_path / "out" / "runs" / "exp000" / "seed-0").status == "completed"


def test_a_worker_whose_command_has_ended_ends_without_a_traceback(tmp_path, capfd):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with mock.patch.dict(os.environ), pytest.raises(SystemExit) as end:
        _work(plan(tmp_path, "EXP000")[0], dict(os.environ), ended.pid)
    assert end.value.code == BUSY
    assert capfd.readouterr().err == ""
