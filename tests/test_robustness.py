"""Spoilt images are what the notebook says, and their table is of runs on record."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from robustness import EXPERIMENTS, REFERENCE, TABLE, spoil
from torch import nn
from torchvision.io import decode_jpeg, encode_jpeg

from cifar_report.data.dataset import Split
from cifar_report.experiments.catalog import load_experiment
from cifar_report.records.record import read_record, run_folder
from cifar_report.training.inputs import to_input

RECORDED = pd.read_csv(TABLE)


@pytest.fixture(scope="module")
def spoilt():
    """What the notebook's cell makes of the first 30 of 40 images, and what a linear model answers."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(64, 192, (40, 3, 4, 4), generator=generator).float()
    photos = nn.functional.interpolate(coarse, size=32, mode="bilinear").byte()
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    dataset = SimpleNamespace(test=Split(photos, torch.arange(40) % 10))
    return spoil(model, dataset, load_experiment("EXP003"), 30)


def test_noise_has_the_strength_of_cifar_10_c(spoilt):
    difference = (spoilt["spoilt"]["noise"].float() - spoilt["as_taken"].float()) / 255
    assert difference.std().item() == pytest.approx(0.08, rel=0.02)
    assert abs(difference.mean().item()) < 0.001


def test_blur_is_a_gaussian_of_0_7_pixels(spoilt):
    weights = torch.exp(-0.5 * (torch.arange(-3, 4) / 0.7) ** 2)
    kernel = torch.outer(weights, weights) / weights.sum() ** 2
    padded = nn.functional.pad(spoilt["as_taken"].float(), [3] * 4, mode="reflect")
    blurred = nn.functional.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view(30, 3, 32, 32)
    assert (blurred - spoilt["spoilt"]["blur"].float()).abs().max() < 0.51  # rounded


@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
def test_jpeg_is_of_quality_58(spoilt):
    """As torchvision compresses the first photograph."""
    expected = decode_jpeg(encode_jpeg(spoilt["as_taken"][0], quality=58))
    assert torch.equal(expected, spoilt["spoilt"]["JPEG"][0])


@pytest.mark.parametrize("how", ["as taken", "noise", "blur", "JPEG"])
def test_answers_are_those_to_the_spoilt_images_with_their_own_labels(spoilt, how):
    found = spoilt["answers"][how]
    assert found.labels.tolist() == [number % 10 for number in range(30)]
    with torch.no_grad():
        expected = spoilt["model"](to_input(spoilt["spoilt"][how], 32, spoilt["parameters"].normalize))
    torch.testing.assert_close(found.logits, expected)


def test_the_table_is_of_runs_on_record():
    """Images as they were taken are right as often as the record says, with one view an image."""
    for row in RECORDED[RECORDED["spoilt"] == "as taken"].itertuples():
        record = read_record(run_folder(REFERENCE, row.experiment, row.seed))
        assert record is not None
        assert record.test is not None
        one_view = record.test.accuracy_without_flip or record.test.accuracy
        assert row.correct == round(one_view * record.test.total), (row.experiment, row.seed)


def test_the_table_has_every_way_for_every_run():
    counts = RECORDED.pivot(index=["experiment", "seed"], columns="spoilt", values="correct")
    assert set(counts.columns) == {"as taken", "noise", "blur", "JPEG"}
    assert not np.isnan(counts.to_numpy(dtype=float)).any()
    assert set(RECORDED["experiment"]) == set(EXPERIMENTS)
