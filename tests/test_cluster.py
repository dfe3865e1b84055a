import contextlib
import dataclasses
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from records import write_run

from cifar_report.execution import cluster
from cifar_report.execution.cluster import _lost_by_ray, execute_on_ray, resource_request
from cifar_report.execution.execute import summary
from cifar_report.execution.plan import PlannedRun, make_plan
from cifar_report.execution.worker import BROKEN, Worker, failed_record, write_failed_record
from cifar_report.experiments.errors import RequestError
from cifar_report.records.lock import folder_lock
from cifar_report.records.record import ErrorRecord, read_record

TINY = {"dataset": "digits", "train_limit": "64", "test_limit": "30", "epochs": "2"}
NODES = Path(__file__).with_name("two_nodes.py")


@pytest.mark.parametrize(
    ("nodes", "given", "expected"),
    [
        ([(8, 0), (4, 0)], {"jobs": None}, (1, 0)),
        ([(8, 0), (4, 0)], {"jobs": 3}, (4, 0)),
        ([(8, 0), (4, 0)], {"jobs": 1}, (8, 0)),  # no run spans two nodes
        ([(8, 0), (4, 0)], {"jobs": 100}, (1, 0)),
        ([(64, 8)], {"jobs": None}, (8, 1)),
        ([(64, 8)], {"jobs": None, "runs_per_gpu": 4}, (2, 0.25)),
        ([(4, 0), (16, 2), (8, 2)], {"jobs": None}, (4, 1)),
        ([(2, 8)], {"jobs": None}, (1, 1)),
        ([(64, 8)], {"jobs": None, "with_gpus": False}, (1, 0)),
    ],
)
def test_resource_request_divides_cores_and_gpus(nodes, given, expected):
    resources = [{"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {})} for cpus, gpus in nodes]
    assert resource_request(resources, **{"runs_per_gpu": 1, "with_gpus": True, **given}) == expected


def test_missing_ray_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    plan = make_plan(["EXP000"], profile="quick", overrides=TINY, output_dir=tmp_path / "out")
    with pytest.raises(RequestError, match=r"pip install 'cifar-report\[ray\]'"):
        execute_on_ray(plan)


def test_only_a_cluster_that_was_named_is_trusted(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=lambda address, **options: asked.append(address)))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster._connect(None)
    monkeypatch.setenv("RAY_ADDRESS", "there:6379")
    cluster._connect(None)
    cluster._connect("here:6379")
    assert asked == ["local", "there:6379", "here:6379"]


def test_a_record_that_this_machine_does_not_see_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "SYNCHRONIZED", 0.0)
    record = write_run(tmp_path / "elsewhere", "EXP000")
    (run,) = make_plan(["EXP000"], profile="quick", overrides=TINY, output_dir=tmp_path / "out")
    for make_earlier in (lambda: None, lambda: write_run(tmp_path / "out", "EXP000", 0.6)):
        earlier = make_earlier()  # which is not this record either
        found = cluster._seen_here(run, record)
        assert found.error is not None
        assert "all nodes must share the output folder" in found.error.message
        assert read_record(run.folder) == earlier  # stays: the folder may only be late to show a good record
    (tmp_path / "elsewhere" / "runs" / "exp000" / "seed-0" / "run.json").replace(run.folder / "run.json")
    assert cluster._seen_here(run, record) == record
    failed = failed_record(run, ErrorRecord(type="OSError", message="No space left on device"), 0.0)  # was not written
    assert cluster._seen_here(run, failed) == failed


def test_a_node_of_another_version_leaves_the_folder_alone(tmp_path):
    (run,) = make_plan(["EXP000"], profile="quick", overrides=TINY, output_dir=tmp_path)
    record = write_run(tmp_path, "EXP000")
    other = dataclasses.replace(run, facts=run.facts.model_copy(update={"library": "another"}))
    with pytest.raises(RuntimeError, match="install the same"):
        cluster._execute_here(other, 1, {}, str(tmp_path))
    assert read_record(run.folder) == record


@contextlib.contextmanager
def two_nodes():
    pytest.importorskip("ray", reason="needs the extra cifar-report[ray]")
    with subprocess.Popen(
        [sys.executable, str(NODES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="a cluster of several nodes on one machine needs Linux")
def test_node_that_dies_loses_nothing_and_no_run_is_completed_twice(tmp_path):
    """12 runs on two nodes, one of which is killed in the middle."""
    seeds = list(range(6))
    words = [sys.executable, "-m", "cifar_report", "run", "EXP000", "EXP003", "--profile", "quick"]
    words += ["--seeds", ",".join(map(str, seeds)), "--output", str(tmp_path / "out")]
    words += ["--set", " ".join(f"{name}={value}" for name, value in TINY.items()), "--executor", "ray"]
    plan = make_plan(["EXP000", "EXP003"], profile="quick", seeds=seeds, overrides=TINY, output_dir=tmp_path / "out")
    written: dict[str, set[int]] = {run.name: set() for run in plan}
    done = threading.Event()

    def watch() -> None:  # which records appear; one written again has another time
        while not done.is_set():
            for run in plan:
                with contextlib.suppress(OSError):
                    written[run.name].add((run.folder / "run.json").stat().st_mtime_ns)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with two_nodes() as (address, nodes):
            assert nodes.stdin is not None
            command = subprocess.Popen(
                [*words, "--ray-address", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            end = time.monotonic() + 300
            while sum(map(bool, written.values())) < 4:
                assert command.poll() is None
                assert time.monotonic() < end, "waited in vain"
                time.sleep(0.1)
            nodes.stdin.write("kill\n")
            nodes.stdin.flush()
            out, err = command.communicate(timeout=400)
    finally:
        done.set()
        watcher.join()
    assert command.returncode == 0, out + err
    assert "Ray: 2 nodes, 2 cores, 2 GPUs; each run gets 1 cores, 1 of a GPU" in out
    assert "[12/12]" in out
    assert all(run.is_complete() for run in plan)
    assert {name: len(times) for name, times in written.items()} == dict.fromkeys(written, 1)
    records = [read_record(run.folder) for run in plan]
    assert {record.environment.threads for record in records if record and record.environment} == {1}


def test_no_cluster_at_the_address_is_said(monkeypatch):
    def refuse(**given):
        raise ConnectionError("could not connect\nmore")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=refuse))
    with pytest.raises(RequestError, match=r"^no Ray cluster at there:1: could not connect$"):
        cluster._connect("there:1")


def test_a_task_that_is_lost_after_its_run_was_complete_leaves_the_result(tmp_path, monkeypatch):
    (run,) = make_plan(["EXP000"], profile="quick", overrides=TINY, output_dir=tmp_path / "out")
    record = write_run(tmp_path / "out", "EXP000")
    error = RuntimeError("ray::run (pid=1)")
    error.cause = ValueError("what it was")
    with folder_lock(run.folder):
        assert _lost_by_ray(run, error, 0.0).status == "failed"
        assert read_record(run.folder) == record  # another process has the run
    monkeypatch.setattr(PlannedRun, "is_complete", lambda run: True)
    assert _lost_by_ray(run, error, 0.0) == record
    monkeypatch.setattr(PlannedRun, "is_complete", lambda run: False)
    failed = _lost_by_ray(run, error, 0.0)
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "what it was")
    assert read_record(run.folder) == record  # which is of other parameters: it stays until a result replaces it


def test_a_task_whose_gpu_does_not_work_pauses_and_says_how_it_failed(tmp_path, monkeypatch):
    (run,) = make_plan(["EXP000"], profile="quick", overrides=TINY, output_dir=tmp_path / "out")
    ended = SimpleNamespace(exitcode=BROKEN, join=lambda: None)
    monkeypatch.setattr(Worker, "start", lambda run, environment: Worker(run, ended))
    paused = []
    monkeypatch.setattr(cluster.time, "sleep", paused.append)
    given = 1, {}, str(tmp_path)
    assert cluster._execute_here(run, *given).error.type == "BrokenGPU"
    failure = write_failed_record(run, ErrorRecord(type="AcceleratorError", message="an ECC error"), 0.0)
    assert cluster._execute_here(run, *given) == failure
    assert paused == [cluster.PAUSE] * 2


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="a cluster of several nodes on one machine needs Linux")
def test_scheduling_costs_little(tmp_path):
    """200 runs that do nothing: what is left is the cost of scheduling."""
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import test_cluster as t; from pathlib import Path\n"
        "print(t.empty_runs(sys.argv[2], Path(sys.argv[3]), 200))"
    )
    with two_nodes() as (address, _):
        words = [sys.executable, "-c", script, str(Path(__file__).parent), address, str(tmp_path)]
        printed = subprocess.run(words, capture_output=True, text=True, timeout=250)
    assert printed.returncode == 0, printed.stderr
    assert float(printed.stdout.splitlines()[-1]) < 0.1


def empty_runs(address: str, output: Path, count: int) -> float:
    """Seconds a run that empty runs take on a Ray cluster, the start of its workers included."""
    plan = make_plan(["EXP000"], profile="quick", seeds=range(count), overrides=TINY, output_dir=output)
    started = time.perf_counter()
    cluster._execute_here, cluster._seen_here = _nothing(plan[0]), lambda run, record: record
    records = execute_on_ray(plan, address=address)
    assert len(records) == count
    assert summary(records[0])
    return (time.perf_counter() - started) / count


def _nothing(run):
    from records import write_run

    record = write_run(Path(run.parameters.output_dir) / "made-up", "EXP000")
    return lambda run, threads, settings, folder: record.model_copy(update={"seed": run.parameters.seed})
