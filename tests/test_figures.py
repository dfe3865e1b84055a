import io

import numpy as np
import pytest
import torch
from PIL import Image
from records import write_run

from cifar_report.data.dataset import load_dataset
from cifar_report.evaluation import Evaluation
from cifar_report.report import figures
from cifar_report.report.journal import Journal


def size(picture):
    return Image.open(io.BytesIO(picture.png)).size


def test_learning_curves_say_what_they_show(tmp_path):
    run = write_run(tmp_path, "EXP003")
    picture = figures.learning_curves({"EXP003": run.epochs})
    assert size(picture)[0] == 2 * picture.width
    assert "validation loss lowest at epoch 2 (1.00) and 1.40 at the end" in picture.alt
    assert "70.00%" in picture.alt


def test_same_figure_same_bytes(tmp_path):
    run = write_run(tmp_path, "EXP003")
    one, two = (figures.learning_curves({"EXP003": run.epochs, "EXP004": run.epochs}) for _ in range(2))
    assert one.png == two.png


def test_confusion_matrix_names_the_most_frequent_mistake():
    counts = np.diag([90] * 10)
    counts[3, 5] = 10
    picture = figures.confusion_matrix(counts, [f"class {k}" for k in range(10)])
    assert "900 of 910 images are right" in picture.alt
    assert "10 images of class 3 taken for class 5" in picture.alt


def test_ladder_tells_range_and_best(tmp_path):
    write_run(tmp_path, "EXP001", 0.7)
    write_run(tmp_path, "EXP003", 0.76)
    picture = figures.accuracy_ladder(list(Journal.load(tmp_path).complete.values()), reference=True)
    assert "from 70.00 % to 76.00 % (EXP003" in picture.alt


def test_pictures_escape_what_they_say(tmp_path):
    picture = figures.bars({"<b>": 1.0}, '"><script>alert(1)</script>', label="x")
    assert "<script>" not in picture.html()
    data, metadata = picture._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == picture.alt
    assert data["text/plain"] == picture.alt


def test_histories_are_told_apart_by_seed(tmp_path):
    runs = [write_run(tmp_path, "EXP003", seed=seed) for seed in (0, 1)]
    assert list(figures.histories(runs)) == ["EXP003 seed 0", "EXP003 seed 1"]
    assert list(figures.histories(runs[:1])) == ["EXP003"]


@pytest.mark.parametrize("limit", [10, 3])
def test_classes_grid_takes_what_there_is(tiny, limit):
    train = load_dataset(tiny(train_limit=limit)).train
    figures.classes_grid(train.images.numpy(), train.labels.numpy(), [str(k) for k in range(10)])


def test_a_perfect_model_has_no_mistakes_to_show(tiny):
    dataset = load_dataset(tiny())
    perfect = Evaluation(torch.nn.functional.one_hot(dataset.test.labels, 10).float(), dataset.test.labels)
    assert figures.confident_mistakes(dataset, perfect).alt == "Most confident mistakes: none."
