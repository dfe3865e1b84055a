import json
import os
import stat

import nbformat
import pytest

from cifar_report.catalog import Family, load_catalog
from cifar_report.errors import RequestError
from cifar_report.pipeline import execute as execute_module
from cifar_report.pipeline.execute import execute_plan, execute_run
from cifar_report.pipeline.plan import make_plan
from cifar_report.record import read_record
from cifar_report.report.journal import Journal

TINY = {"dataset": "digits", "train_limit": "64", "test_limit": "30", "epochs": "1"}


def plan(tmp_path, *experiments, **given):
    options = {"profile": "quick", "overrides": TINY, "output_dir": tmp_path / "out", **given}
    return make_plan(experiments, **options)


def test_plan_is_every_experiment_with_every_seed_in_order(tmp_path):
    runs = plan(tmp_path, "EXP003-EXP004", seeds=[0, 2])
    assert [run.name for run in runs] == ["EXP003 seed 0", "EXP003 seed 2", "EXP004 seed 0", "EXP004 seed 2"]
    assert len({run.key for run in runs}) == 4
    assert len(plan(tmp_path)) == 21
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
    with pytest.raises(RequestError, match="is not a folder"):
        plan(tmp_path, "EXP003")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_output_without_permission_is_refused(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RequestError, match="no permission"):
        plan(tmp_path, "EXP003")


def test_output_without_permission_is_refused_for_whoever_may_not_write(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RequestError, match="no permission to write"):
        plan(tmp_path, "EXP003")


@pytest.fixture
def short_notebook(tmp_path, monkeypatch):
    """A family notebook reduced to what a run needs; its last cell does what a test wants."""

    def make(last: str = "") -> None:
        notebook = nbformat.read(load_catalog().family_named("baseline").notebook_path, as_version=4)
        keep = {"parameters", "start", "data", "model", "training", "results", "record"}
        notebook.cells = [cell for cell in notebook.cells if cell.id in keep]
        notebook.cells.append(nbformat.v4.new_code_cell(last))
        path = tmp_path / "short.ipynb"
        nbformat.write(notebook, path)
        monkeypatch.setattr(Family, "notebook_path", path)

    return make


@pytest.mark.slow
def test_complete_run_is_not_executed_again_and_a_changed_one_is(tmp_path, monkeypatch):
    said: list[str] = []
    (record,) = execute_plan(plan(tmp_path, "EXP000"), say=said.append)
    assert record.status == "completed"
    assert said[0] == "1 runs planned, 0 complete, 1 to execute"
    assert "of 30 test images" in said[1]
    folder = tmp_path / "out" / "runs" / "exp000" / "seed-0"
    contract = {"run.json", "history.csv", "predictions.npz", "model.safetensors", "notebook.ipynb"}
    assert {path.name for path in folder.iterdir()} == contract
    executed = json.loads((folder / "notebook.ipynb").read_text())
    assert executed["metadata"]["kernelspec"]["name"] == "python3"
    assert record.key == plan(tmp_path, "EXP000")[0].key

    monkeypatch.setattr(execute_module, "execute_notebook", lambda *a: pytest.fail("executed again"))
    assert execute_plan(plan(tmp_path, "EXP000"), say=said.append) == []
    assert said[-1] == "1 runs planned, 1 complete, 0 to execute"
    (changed,) = plan(tmp_path, "EXP000", overrides={**TINY, "lr": "0.02"})
    assert not changed.is_complete()
    (folder / "predictions.npz").unlink()
    assert not plan(tmp_path, "EXP000")[0].is_complete()


@pytest.mark.slow
def test_failed_run_is_recorded_with_its_cell_and_does_not_stop_the_others(tmp_path, short_notebook):
    short_notebook('if parameters.seed == 0:\n    raise ValueError("<script>no</script>")')
    said: list[str] = []
    failed, done = execute_plan(plan(tmp_path, "EXP000", seeds=[0, 1]), say=said.append)
    assert (failed.status, done.status) == ("failed", "completed")
    on_disk = read_record(tmp_path / "out" / "runs" / "exp000" / "seed-0")
    assert on_disk is not None
    assert on_disk.status == "failed"
    assert on_disk.error is not None
    assert on_disk.error.type == "ValueError"
    assert on_disk.error.message == "<script>no</script>"
    assert on_disk.error.cell_source is not None
    assert "raise ValueError" in on_disk.error.cell_source
    assert on_disk.error.cell is not None
    assert f"FAILED in cell {on_disk.error.cell}: ValueError" in said[1]
    journal = Journal.load(tmp_path / "out")
    assert [run.seed for run in journal.results["EXP000"].runs] == [1]
    assert not plan(tmp_path, "EXP000")[0].is_complete()  # to be tried again


@pytest.mark.slow
def test_dead_kernel_is_a_failed_run(tmp_path, short_notebook):
    short_notebook("import os\nos._exit(9)")
    record = execute_run(plan(tmp_path, "EXP000")[0])
    assert record.status == "failed"
    assert record.error is not None
    assert "Kernel" in record.error.type


@pytest.mark.slow
def test_notebook_that_leaves_no_record_is_a_failed_run(tmp_path, short_notebook):
    short_notebook("(run.folder / 'run.json').unlink()")
    record = execute_run(plan(tmp_path, "EXP000")[0])
    assert record.error is not None
    assert "without leaving a record" in record.error.message


@pytest.mark.slow
def test_kernel_is_this_environments(tmp_path, short_notebook):
    short_notebook("import sys\nprint('prefix', sys.prefix)")
    import sys

    run = plan(tmp_path, "EXP000")[0]
    execute_run(run)
    assert f"prefix {sys.prefix}" in (run.folder / "notebook.ipynb").read_text()
