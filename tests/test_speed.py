"""How long a run takes on this machine."""

import pytest
import torch

from cifar_report.cli import main
from cifar_report.data.cache import load_images
from cifar_report.data.dataset import load_dataset
from cifar_report.data.sources import SIZES
from cifar_report.execution import speed
from cifar_report.execution.plan import PlannedRun, RunState, make_plan
from cifar_report.execution.resources import STARTUP
from cifar_report.execution.speed import seconds_left
from cifar_report.experiments.errors import RequestError
from cifar_report.training.build import build_model
from cifar_report.training.environment import find_device
from cifar_report.training.loop import train


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def planned(tmp_path, experiment="EXP003", **overrides):
    (run,) = make_plan([experiment], profile="full", overrides=overrides, output_dir=tmp_path / "out", read_only=True)
    return run


def test_sizes_are_those_of_the_datasets():
    digits, _ = load_images("digits")
    assert speed.SIZES["digits"] == (digits.train_size, len(digits.labels) - digits.train_size)
    assert speed.SIZES["cifar10"] == SIZES


def test_seconds_are_those_of_all_images_in_all_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "_speed", lambda parameters, validation: [0.5, 0.01 + 0.01 * validation])
    assert seconds_left(planned(tmp_path, epochs="2")) == pytest.approx(STARTUP + 50_000 * (0.5 + 2 * 0.012))
    limited = planned(tmp_path, train_limit="100", test_limit="50", epochs="1")
    assert seconds_left(limited) == pytest.approx(STARTUP + 100 * (0.5 + 0.015))
    fold = planned(tmp_path, validation="fold", fold="0", folds="5", epochs="1")
    assert seconds_left(fold) == pytest.approx(STARTUP + 40_000 * (0.5 + 0.01 * 1.25))
    digits = planned(tmp_path, dataset="digits", validation="holdout", holdout_size="442", epochs="1")
    assert seconds_left(digits) == pytest.approx(STARTUP + 1000 * (0.5 + 0.01 * 1.442))


def test_a_device_that_this_machine_lacks_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(speed.torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match="device=cuda is set, but this machine lacks it"):
        seconds_left(planned(tmp_path, device="cuda"))


def test_what_does_not_fit_is_said_and_the_next_run_is_measured(tmp_path, monkeypatch, capsys):
    def measure(e, device):
        if e.model == "lenet":
            raise torch.OutOfMemoryError
        return 0.0, 1.0

    monkeypatch.setattr(speed, "_measure", measure)
    assert main(["run", "EXP003", "EXP000", "--dry-run", "--profile", "quick", "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "EXP003 seed 0: missing, a step of 64 images does not fit in the memory of" in out
    assert "EXP000 seed 0: missing, about" in out


def test_a_run_that_diverged_is_named_and_not_measured(tmp_path, cache, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(speed, "_measure", lambda e, device: measured.append(e.model) or (0.0, 1.0))
    states = {"EXP003": RunState("diverged", ""), "EXP000": RunState("missing", "")}
    monkeypatch.setattr(PlannedRun, "state", lambda run: states[run.parameters.experiment])
    assert main(["run", "EXP003", "EXP000", "--dry-run", "--profile", "quick", "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "EXP003 seed 0: diverged, not trained again\n" in out
    assert "1 run to execute" in out
    assert measured == ["net"]


def test_a_measurement_is_kept_for_what_takes_the_same_time(tmp_path, cache, monkeypatch):
    measured = []
    monkeypatch.setattr(speed, "_measure", lambda e, device: measured.append(e) or (0.0, 1.0))
    first = seconds_left(planned(tmp_path, "EXP003"))
    assert seconds_left(planned(tmp_path, "EXP003", lr="0.1")) == first
    assert len(measured) == 1
    seconds_left(planned(tmp_path, "EXP003", batch_size="32"))
    assert len(measured) == 2
    for damaged in ("{", "null"):  # measured again
        (cache / "speed.json").write_text(damaged)
        assert seconds_left(planned(tmp_path, "EXP003")) == first
    assert len(measured) == 4


def test_whole_batches_of_the_runs_own_size_are_measured(tmp_path, cache, monkeypatch):
    """Four images a step at 224 pixels made the optimizer's step half of the time, and an estimate half too long."""
    measured = []
    monkeypatch.setattr(speed, "_measure", lambda e, device: measured.append(e) or (0.0, 1.0))
    for experiment, batch, images in (("EXP017", 64, 64), ("EXP029", 256, 256), ("EXP003", 64, 1024)):
        seconds_left(planned(tmp_path, experiment))
        assert (measured[-1].batch_size, measured[-1].train_limit) == (batch, images)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["EXP003", "EXP014"])
def test_the_estimate_is_the_time_within_a_factor_of_one_and_a_half(tmp_path, cache, experiment):
    """In processor time, so that other processes of the machine do not count."""
    run = planned(tmp_path, experiment, dataset="digits", weights_dir=str(tmp_path), offline="stand_in", epochs="3")
    e, device = run.parameters.model_copy(update={"weights": None}), find_device(run.parameters.device)
    ratios = []
    for _ in range(3):  # on a busy machine a measurement may go wrong
        (cache / "speed.json").unlink(missing_ok=True)
        estimated = seconds_left(run)
        assert estimated is not None
        model, dataset = build_model(e)[0].to(device), load_dataset(e, device)
        started = speed._clock(device)
        train(model, dataset, e)
        seconds = min(after - before for before, after in zip(started, speed._clock(device), strict=True))
        ratios.append((estimated - STARTUP) / seconds)
        if 1 / 1.5 < ratios[-1] < 1.5:
            return
    raise AssertionError(ratios)


def test_what_is_slow_is_trained_once(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(speed, "train", lambda *a, on_epoch, **k: trained.append(1) or on_epoch(None))
    monkeypatch.setattr(speed, "SLOW", -1.0)
    run = planned(tmp_path, "EXP000", dataset="digits", train_limit="20", test_limit="20")
    assert seconds_left(run) is not None
    assert len(trained) == 1


def test_the_epochs_that_an_unfinished_run_has_done_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "_speed", lambda parameters, validation: [0.0, 0.01])
    monkeypatch.setattr(PlannedRun, "finished_epochs", lambda run: 18)
    assert seconds_left(planned(tmp_path)) == pytest.approx(STARTUP + 50_000 * 2 * 0.01)
