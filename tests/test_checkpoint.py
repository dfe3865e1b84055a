"""An interrupted run goes on as if nothing had happened."""

import multiprocessing
import random
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cifar_report.data.dataset import load_dataset
from cifar_report.records.files import CHECKPOINT, RESULT_FILES
from cifar_report.records.record import Progress, read_progress, read_record
from cifar_report.run import Run
from cifar_report.training.build import build_model
from cifar_report.training.checkpoint import Checkpoint
from cifar_report.training.loop import train


def made(path, *, key="key", device="cpu", started_at="2026-01-01T00:00:00+00:00", **environment):
    return Checkpoint(path, key, device=device, started_at=started_at, environments=[environment])


@pytest.fixture
def checkpoint(tmp_path):
    return made(tmp_path / "checkpoint.pt", threads=2)


def again(checkpoint):
    return made(checkpoint.path, started_at="later", threads=1)


def test_a_warning_outlives_the_next_interruption(checkpoint):
    checkpoint.warning = "its checkpoint was damaged (x): it started again from the first epoch"
    checkpoint.save({"weights": {"a": torch.arange(3)}, "history": []})
    reader = again(checkpoint)
    assert reader.load() is not None
    assert reader.warning == checkpoint.warning


def test_state_comes_back(checkpoint):
    checkpoint.save({"weights": {"a": torch.arange(3)}, "history": [{"epoch": 1, "loss": 0.1}]})
    reader = again(checkpoint)
    state = reader.load()
    assert state is not None
    assert torch.equal(state["weights"]["a"], torch.arange(3))
    assert state["history"] == [{"epoch": 1, "loss": 0.1}]
    assert reader.started_at == "2026-01-01T00:00:00+00:00"
    assert reader.environments[0] == {"threads": 2}
    assert read_progress(checkpoint.path.parent) == Progress(key="key", device=checkpoint.device, epochs=1)
    reader.remove()
    assert list(checkpoint.path.parent.iterdir()) == []


def test_a_state_that_takes_long_to_write_is_not_written_after_every_epoch(checkpoint, monkeypatch):
    times = iter([1.0, 21.0, 200.0, 202.0, 202.5])  # the first takes 20 s: nothing is written for the next 180
    monkeypatch.setattr("cifar_report.training.checkpoint.perf_counter", lambda: next(times))
    for epochs, written in ((1, 1), (2, 1), (3, 3)):
        checkpoint.save({"history": list(range(epochs))})
        assert len(again(checkpoint).load()["history"]) == written


def test_no_checkpoint_no_state(checkpoint):
    assert checkpoint.load() is None


@pytest.mark.parametrize("damage", ["truncated", "garbled", "empty", "one byte", "directory"])
def test_damaged_checkpoint_is_told_and_not_used(checkpoint, damage):
    checkpoint.save({"weights": torch.arange(1000.0), "history": []})
    content = bytearray(checkpoint.path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "garbled":
        content = bytearray(random.Random(0).randbytes(len(content)))
    elif damage == "empty":
        content = bytearray()
    elif damage == "directory":  # of the zip file, at its end
        content = content[: content.index(b"PK\x01\x02")] + content[content.index(b"PK\x05\x06") :]
    else:
        position = content.index(torch.arange(1000.0).numpy().tobytes()[2000:2100])
        content[position] ^= 1
    checkpoint.path.write_bytes(content)
    reader = again(checkpoint)
    assert reader.load() is None
    assert reader.warning is not None
    assert reader.warning.startswith("its checkpoint was damaged (")


def test_checkpoint_of_another_run_is_not_used(checkpoint, capsys):
    checkpoint.save({"weights": torch.arange(3), "history": []})
    for other in ({"key": "another key"}, {"device": "cuda"}):
        assert made(checkpoint.path, **other).load() is None
        assert "is of other parameters" in capsys.readouterr().out


def test_checkpoint_cannot_run_code(checkpoint):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    torch.save({"key": "key", "evil": Evil()}, checkpoint.path)
    assert again(checkpoint).load() is None


def test_what_the_system_says_of_a_full_disk_is_passed_on(checkpoint):
    resource = pytest.importorskip("resource", reason="this system limits no file's size")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save({"weights": torch.zeros(1_000_000), "history": []})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert list(checkpoint.path.parent.iterdir()) == []


CASES = {
    "dropout, momentum and augmentation": {"model": "lenet", "augment": ["horizontal_flip", "rotation", "crop"]},
    "all that changes from epoch to epoch": {
        "model": "fastnet",
        "batch_size": 16,
        "whiten": True,
        "augment": ["alternating_flip", "shift", "cutout"],
        "mix": "cutmix",
        "lookahead": True,
        "schedule": "triangular",
    },
    "adam with a schedule": {
        "model": "net",
        "optimizer": "adam",
        "lr": 0.001,
        "momentum": 0,
        "nesterov": False,
        "schedule": "one_cycle",
    },
    "batchnorm in mixed precision": {"model": "mobilenet_v2", "precision": "bfloat16", "schedule": "cosine"},
}


class StoppedError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("given", CASES.values(), ids=list(CASES))
def test_interrupted_training_equals_an_uninterrupted_one(tiny, checkpoint, given):
    parameters = tiny(epochs=4, **given)
    dataset = load_dataset(parameters)

    def fresh():
        torch.manual_seed(0)
        return build_model(parameters)[0]

    whole = fresh()
    history, evaluation, _ = train(whole, dataset, parameters)

    def stop_after(epoch):
        if epoch.epoch == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(fresh(), dataset, parameters, checkpoint=checkpoint, on_epoch=stop_after)
    torch.rand(100)  # another process would have another state of the global generator
    resumed, seen = fresh(), []
    resumed_history, resumed_evaluation, _ = train(
        resumed, dataset, parameters, checkpoint=again(checkpoint), on_epoch=seen.append
    )
    assert [epoch.epoch for epoch in seen] == [1, 2, 3, 4]
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(evaluation.logits, resumed_evaluation.logits)
    for one, other in zip(history, resumed_history, strict=True):
        assert one.model_copy(update={"seconds": 0}) == other.model_copy(update={"seconds": 0})


def execute(parameters) -> None:
    """A whole run, as a notebook drives it."""
    torch.set_num_threads(1)
    run = Run.start(parameters.model_dump(), family="baseline")
    run.load_dataset()
    run.build_model()
    run.train()
    run.evaluate()
    run.complete()


def results(folder):
    record = read_record(folder)
    assert record is not None
    with np.load(folder / "predictions.npz") as stored:
        predictions = {name: stored[name] for name in stored.files}
    return (
        load_file(folder / "model.safetensors"),
        [e.model_dump(exclude={"seconds"}) for e in record.epochs],
        predictions,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs processes that fork")
def test_run_killed_at_random_moments_ends_with_the_same_result(tiny, tmp_path):
    """SIGKILL at least 20 times, at any moment: weights, history and predictions stay the same to the last bit."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cifar_report.run"])
    moments = random.Random(20)

    def parameters(output):
        return tiny(
            model="lenet", train_limit=600, test_limit=200, epochs=8, augment=["rotation"], output_dir=str(output)
        )

    def start(output):
        process = context.Process(target=execute, args=(parameters(output),))
        process.start()
        return process

    process = start(tmp_path / "whole")
    began = time.perf_counter()
    process.join()
    duration = time.perf_counter() - began
    assert process.exitcode == 0
    expected = results(tmp_path / "whole" / "runs" / "exp000" / "seed-0")

    kills, runs, resumed = 0, 0, 0
    while kills < 20:
        output = tmp_path / f"killed-{runs}"
        folder = output / "runs" / "exp000" / "seed-0"
        while True:
            resumed += (folder / CHECKPOINT).exists() and not (folder / "run.json").exists()
            process = start(output)
            process.join(timeout=moments.uniform(0.1, 0.8) * duration)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            kills += 1
        assert process.exitcode == 0
        runs += 1
        weights, history, predictions = results(folder)
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected[0].items())
        assert history == expected[1]
        assert all(np.array_equal(predictions[name], array) for name, array in expected[2].items())
        assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == set(RESULT_FILES)
    assert resumed >= 5
    print(f"{kills} kills in {runs} runs, {resumed} resumed from a checkpoint")
