"""What a machine does to runs: full and read-only disks, wrong clocks, the memory killer, sheer numbers."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from records import write_run

from cifar_report.execution import kernel, worker
from cifar_report.execution.execute import execute_plan, missing_runs
from cifar_report.execution.kernel import execute_notebook
from cifar_report.execution.plan import make_plan
from cifar_report.experiments.catalog import load_catalog
from cifar_report.journal.frames import results_frame
from cifar_report.journal.journal import Journal
from cifar_report.records.lock import folder_lock
from cifar_report.records.record import read_record, write_record
from cifar_report.report import export

TINY = {"dataset": "digits", "train_limit": "64", "test_limit": "30", "epochs": "1"}


def plan(output, *experiments, **given):
    return make_plan(experiments, **{"profile": "quick", "overrides": TINY, "output_dir": output, **given})


def command(output, *words):
    pairs = " ".join(f"{name}={value}" for name, value in TINY.items())
    full = [sys.executable, "-m", "cifar_report", *words, "--profile", "quick", "--output", str(output), "--set", pairs]
    return subprocess.run(full, capture_output=True, text=True, timeout=200)


@pytest.fixture
def disk(tmp_path):
    """Make a small file system; returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(options: str):
        mounted = sys.platform == "linux" and shutil.which("mount") is not None
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not mounted or subprocess.run(words, capture_output=True).returncode != 0:
            pytest.skip("needs the right to mount a file system")
        return folder

    yield make
    with contextlib.suppress(OSError):
        subprocess.run(["umount", str(folder)], capture_output=True)


@pytest.mark.slow
def test_full_disk_is_said_and_the_run_is_made_when_there_is_room(disk):
    folder = disk("size=420k")  # room for the weights, not for the checkpoint beside them
    ended = command(folder / "out", "run", "EXP000")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "No space left on device" in ended.stdout or "is its disk full?" in ended.stdout
    assert Journal(folder / "out").complete == {}
    subprocess.run(["mount", "-o", "remount,size=20m", str(folder)], check=True)
    ended = command(folder / "out", "run", "EXP000")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert plan(folder / "out", "EXP000")[0].is_complete()


def test_read_only_file_system_is_refused_before_anything_runs(disk):
    folder = disk("ro")
    ended = command(folder / "out", "run", "EXP000")
    assert ended.returncode == 2
    assert "cannot write to" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked, and watched, on Linux")
def test_kernel_ended_by_the_memory_killer_is_a_failed_run_and_the_next_goes_on(tmp_path):
    runs = plan(tmp_path / "out", "EXP000", seeds=[0, 1], overrides={**TINY, "epochs": "400", "train_limit": "1400"})
    killed = []

    def hunt() -> None:
        end = time.monotonic() + 60
        history = runs[0].folder / "history.csv"
        while time.monotonic() < end and not history.exists():
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            # The kernel is the child of a worker, which is a child of the fork server.
            with contextlib.suppress(psutil.Error):
                if [parent.pid for parent in process.parents()].index(os.getpid()) == 2:
                    process.kill()
                    killed.append(process.pid)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    (failed,) = execute_plan(runs[:1])
    hunter.join()
    assert killed
    assert failed.status == "failed"
    assert failed.error is not None
    assert "as the system does when memory runs out" in failed.error.message
    assert runs[0].state().status == "failed"
    (done,) = execute_plan(plan(tmp_path / "out", "EXP000", seeds=[1]))
    assert done.status == "completed"


def test_clock_set_back_changes_no_result_and_no_duration(tmp_path):
    record = write_run(tmp_path / "out", "EXP000")
    earlier = record.model_copy(update={"finished_at": "2001-01-01T00:00:00+00:00"})  # before it was started
    write_record(tmp_path / "out" / "runs" / "exp000" / "seed-0", earlier)
    journal = Journal(tmp_path / "out")
    assert [run.seconds.total for run in journal.results["EXP000"].runs] == [600]
    assert results_frame(journal)["accuracy"].tolist() == [70.0]


def test_the_page_of_a_notebook_is_that_of_the_notebook_whatever_the_clock_says(tmp_path):
    record = write_run(tmp_path / "out", "EXP000")
    notebook = tmp_path / "out" / "runs" / "exp000" / "seed-0" / "notebook.ipynb"
    page = tmp_path / "page.html"
    export._export_notebook(notebook, page, record)
    made = page.stat().st_mtime_ns
    export._export_notebook(notebook, page, record)
    assert page.stat().st_mtime_ns == made
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("made again")]), notebook)
    os.utime(notebook, (0, 0))  # the clock was set back before the run was made again
    export._export_notebook(notebook, page, record)
    assert "made again" in page.read_text()


@pytest.mark.parametrize("content", ["", '{"cells": [', "null", "{}"])
def test_a_damaged_notebook_gets_a_page_that_says_so(content, tmp_path):
    record = write_run(tmp_path / "out", "EXP000")
    notebook = tmp_path / "out" / "runs" / "exp000" / "seed-0" / "notebook.ipynb"
    notebook.write_text(content)
    export._export_notebook(notebook, tmp_path / "page.html", record)
    assert "This notebook is damaged" in (tmp_path / "page.html").read_text()


def test_a_users_start_up_files_reach_no_run(tmp_path, monkeypatch):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("x = 1\n")  # which would count as a misspelt parameter
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(startup / "00.py"))
    (done,) = execute_plan(plan(tmp_path / "out", "EXP000"))
    assert done.status == "completed", done.error


@pytest.mark.skipif(os.name != "posix", reason="elsewhere kernels have ports")
@pytest.mark.parametrize("length", [65, 66])  # up to where a socket's path is short enough
def test_what_a_kernel_needs_lies_in_one_folder_and_goes_with_it(tmp_path, monkeypatch, length, request):
    made = tempfile.TemporaryDirectory(dir="/tmp")
    request.addfinalizer(made.cleanup)
    folder = Path(made.name, "x" * (length - len(made.name) - 1))
    folder.mkdir()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    code = "from ipykernel import get_connection_file; print(get_connection_file())"
    cells = [
        nbformat.v4.new_code_cell("# parameters", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    before = dict(os.environ)
    execute_notebook(tmp_path / "a.ipynb", tmp_path / "out" / "a.ipynb", {})
    assert dict(os.environ) == before
    file = Path(nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4).cells[-1].outputs[0].text.strip())
    assert file.parent.name.startswith(kernel.FOLDER)
    assert (file.parent.parent == folder) is (length == 65)
    assert not file.parent.exists()
    assert not list((tmp_path / "runtime").glob("*"))


def test_folders_of_kernels_whose_processes_were_killed_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "short_folder", lambda: str(tmp_path))
    used, left, new = (tmp_path / f"{kernel.FOLDER}{name}" for name in ("used", "left", "new"))
    other = tmp_path / "cifar-report-verify-x"
    for folder in (used, left, new, other):
        folder.mkdir()
        (folder / "kernel.json").write_text("a key")
    with folder_lock(used):
        for folder in (used, left, other):
            os.utime(folder, (0, 0))
        kernel.remove_leftovers()
        assert sorted(tmp_path.iterdir()) == sorted([used, new, other])


def test_what_a_killed_process_left_beside_a_complete_run_is_removed(tmp_path):
    """Killed between its record and its end, as `make soak` found; but nothing of a process that still works."""
    [run] = plan(tmp_path, "EXP000")
    worker.execute_run(run)
    traces = [run.folder / name for name in (".holder", ".log")]
    for path in traces:
        path.write_text("1 vm")
    (run.folder / ".lock").touch()
    with folder_lock(run.folder):
        missing_runs([run])
        assert all(path.exists() for path in traces)
    for path in traces:
        path.write_text("1 vm")
    assert missing_runs([run]) == ([], [])
    assert not any(path.exists() for path in traces)


def test_a_kernel_is_ended_where_no_notebook_reaches_it(tmp_path):
    """It waits for one, and its process would wait for it for ever."""
    (tmp_path / "file").write_text("")
    calls = []
    kernel = SimpleNamespace(kill=lambda: calls.append("kill"), wait=lambda: calls.append("wait"))
    with pytest.raises(OSError, match="file"):
        execute_notebook(tmp_path / "a.ipynb", tmp_path / "file" / "b" / "out.ipynb", {}, kernel=kernel)
    assert calls[:2] == ["kill", "wait"]


def test_a_kernel_is_ended_where_its_folder_cannot_be_made(tmp_path, monkeypatch):
    calls = []
    kernel = SimpleNamespace(kill=lambda: calls.append("kill"), wait=lambda: calls.append("wait"))
    monkeypatch.setattr(f"{execute_notebook.__module__}.short_folder", lambda: str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="gone"):
        execute_notebook(tmp_path / "a.ipynb", tmp_path / "out.ipynb", {}, kernel=kernel)
    assert calls[:2] == ["kill", "wait"]


def test_a_run_that_another_command_has_begun_since_is_left_to_it(tmp_path):
    (run,) = plan(tmp_path / "out", "EXP000")
    ended = worker.Worker(run, SimpleNamespace(exitcode=0))
    with folder_lock(run.folder):
        assert ended.result() is None
        assert not (run.folder / "run.json").exists()
    lost = ended.result()
    assert lost is not None
    assert lost.error is not None
    assert lost.error.type == "RecordLost"
    assert lost.error.message == f"the run could not write its record in {run.folder}; is its disk full?"


def test_an_earlier_result_does_not_pass_for_that_of_a_run_that_could_write_none(tmp_path):
    (run,) = plan(tmp_path / "out", "EXP000")
    earlier = write_run(tmp_path / "out", "EXP000")
    lost = worker.Worker(run, SimpleNamespace(exitcode=0)).result()
    assert lost is not None
    assert lost.error is not None
    assert lost.error.type == "RecordLost"
    assert read_record(run.folder) == earlier


def test_a_full_disk_is_refused_by_name_before_anything_runs(disk):
    folder = disk("size=40k")
    with contextlib.suppress(OSError), (folder / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    ended = command(folder / "out", "run", "EXP000")
    assert ended.returncode == 2
    assert "No space left on device" in ended.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_thousands_of_records_are_planned_checked_and_tabulated_within_time_and_memory(tmp_path):
    """A fifth of the 10,000 records that must take less than 60 s and 500 MB."""
    output, seeds = tmp_path / "out", 2000 // len(load_catalog().entries)
    for run in plan(output, seeds=[0]):
        write_run(output, run.parameters.experiment)
        record = read_record(run.folder)
        assert record is not None
        header = ",".join(record.epochs[0].model_dump())
        rows = [",".join(map(str, epoch.model_dump().values())) for epoch in record.epochs]
        (run.folder / "history.csv").write_text("\n".join([header, *rows, ""]))
        (run.folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        for other in plan(output, run.parameters.experiment, seeds=range(seeds)):
            if other.folder != run.folder:
                shutil.copytree(run.folder, other.folder)
            update = {"seed": other.parameters.seed, "key": other.key, "key_facts": other.facts}
            write_record(
                other.folder, record.model_copy(update={**update, "parameters": other.parameters.result_parameters()})
            )
    script = (
        "import sys, time; from pathlib import Path\n"
        "from cifar_report.execution.plan import make_plan\n"
        "from cifar_report.journal.journal import Journal\n"
        "from cifar_report.journal.frames import results_frame\n"
        "output, started = Path(sys.argv[1]), time.process_time()\n"
        f"plan = make_plan(profile='quick', seeds=range({seeds}), overrides={TINY}, output_dir=output)\n"
        "assert all(run.is_complete() for run in plan)\n"
        "assert len(results_frame(Journal(output))) == len(plan)\n"
        "high = [line for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print(time.process_time() - started, high[0].split()[1])"
    )
    environment = {**os.environ, "CIFAR_REPORT_OFFLINE": "1"}
    printed = subprocess.run(
        [sys.executable, "-c", script, str(output)], capture_output=True, text=True, env=environment, timeout=200
    )
    assert printed.returncode == 0, printed.stderr
    seconds, peak = map(float, printed.stdout.split())
    assert seconds < 60 / 5
    assert peak < 500_000  # kB
