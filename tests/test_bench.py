import contextlib
import json
import os
import sys

import bench
import pytest
import torch

from cifar_report.data.dataset import load_dataset
from cifar_report.experiments.schema import AUGMENTATIONS
from cifar_report.training.inputs import to_input
from cifar_report.training.mixing import MIXES


def test_sides_take_turns_and_ratios_are_of_neighbours():
    order = []

    def side(name, values):
        taken = iter(values)

        def measure():
            order.append(name)
            return next(taken)

        return measure

    comparison = bench.interleaved(
        "t", "s", {"a": side("a", [9.0, 1, 2, 3]), "b": side("b", [9.0, 2, 4, 12])}, repeats=3, over="b"
    )
    assert "".join(order) == "abababab"  # the first turn warms up and does not count
    assert [m.values for m in comparison.sides] == [[1, 2, 3], [2, 4, 12]]
    assert comparison.ratios == {"b / a": 2}


def test_unknown_part_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py", "trainings", "--output", str(tmp_path / "bench")])
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert "unknown part 'trainings'" in capsys.readouterr().err
    assert not (tmp_path / "bench").exists()


def test_results_and_a_warning_when_the_machine_is_busy(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.psutil, "cpu_percent", lambda interval: 80.0)
    made = bench.Comparison("T", [bench.Measurement("a", "s", [1.0, 2.0, 3.0])], {"r": 2.5}, "n")
    monkeypatch.setitem(bench.PARTS, "training", lambda device: [made])
    monkeypatch.setattr(sys, "argv", ["bench.py", "training", "--output", str(tmp_path)])
    bench.main()
    printed = capsys.readouterr().out
    assert "WARNING: the machine is busy (80 %" in printed
    assert "2.50" in printed
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["busy_percent"] == 80
    assert content["environment"]["torch"] == torch.__version__
    assert content["comparisons"][0]["sides"][0]["values"] == [1, 2, 3]
    assert (tmp_path / "bench.svg").read_text().startswith("<svg")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process to some cores")
def test_a_command_is_kept_to_its_cores(monkeypatch):
    seen = []
    monkeypatch.setattr(bench.subprocess, "run", lambda *words, **more: seen.append(len(os.sched_getaffinity(0))))
    usual = os.sched_getaffinity(0)
    bench._command("list", on_cores=1)
    bench._command("list")
    assert seen == [1, len(usual)]
    assert os.sched_getaffinity(0) == usual


def test_jobs_are_measured_against_one_job_on_one_core_and_on_all(monkeypatch):
    asked = []

    def command(*words, on_cores):
        asked.append((words[-3], on_cores))
        return {("2", 2): 10.0, ("1", 2): 12.0, ("1", 1): 18.0}[words[-3], on_cores]

    monkeypatch.setattr(bench, "cores", lambda: 2)
    monkeypatch.setattr(bench, "_command", command)
    (comparison,) = bench.bench_jobs(torch.device("cpu"))
    expected = {"1 job on 2 cores": 1.2}
    if hasattr(os, "sched_setaffinity"):
        expected["1 job on 1 core"] = 1.8
    assert comparison.ratios == {f"2 jobs on 2 cores: times as fast as {side}": r for side, r in expected.items()}
    assert len(asked) == 4 * (1 + len(expected))  # a warm-up and three repetitions


def test_every_augmentation_is_measured(monkeypatch):
    monkeypatch.setattr(bench.gc, "collect", lambda: None)  # half a second each
    names = [comparison.title.partition(": ")[2] for comparison in bench.bench_augmentation(torch.device("cpu"), 8)]
    assert names == [*AUGMENTATIONS, *MIXES]


def test_input_at_224_pixels_is_measured(monkeypatch):
    given = {"dataset": "digits", "train_limit": "40"}
    load, epochs = bench.load_experiment, bench.Comparison("epoch", [bench.Measurement("bound", "images/s", [10.0])])
    monkeypatch.setattr(bench, "load_experiment", lambda name, overrides: load(name, overrides={**overrides, **given}))
    monkeypatch.setattr(bench, "_training", lambda *given, **more: epochs)
    alone, _ = bench.bench_input(torch.device("cpu"))
    assert [side.what for side in alone.sides] == ["per-image pipeline, 2 workers", "ours"]
    assert epochs.ratios["preparing the input / the bare step, in time"] > 0


def test_tutorial_pipeline_ours_and_bound_do_the_same_work(monkeypatch):
    """As many steps, of as many images, that have the same values."""

    def here(prepare, *given):  # in this process, and without workers
        epoch = prepare(*given)
        return contextlib.nullcontext(lambda workers: epoch(0))

    usual, seen = bench.F.cross_entropy, []
    monkeypatch.setattr(bench, "_apart", here)
    monkeypatch.setattr(bench.F, "cross_entropy", lambda x, y, **more: seen.append(len(y)) or usual(x, y, **more))
    plain = bench.transforms.Compose([bench.transforms.ToTensor(), bench.HALF])
    experiment = bench.load_experiment("EXP000", overrides={"dataset": "digits", "train_limit": "256"})
    comparison = bench._training("Net", experiment, 256, torch.device("cpu"), plain, repeats=1)
    assert [side.what.split(",")[0] for side in comparison.sides] == ["tutorial pipeline", "ours", "bound"]
    assert seen == [64] * 4 * (3 + 2 * 3)  # the tutorial's choice of workers, a warm-up, and the measurement
    dataset = load_dataset(experiment)
    theirs = torch.stack([bench.PerImage(dataset, plain)[n][0] for n in range(8)])
    assert torch.allclose(theirs, to_input(dataset.train.images[:8], 32, "half"), atol=1e-6)
