"""A folder of one's own pictures as a dataset: `dataset: folder`."""

import shutil

import numpy as np
import pytest
from PIL import Image

from cifar_report.cli import main
from cifar_report.data.cache import find_images, load_images
from cifar_report.data.dataset import load_dataset
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import validate
from cifar_report.records.record import read_record

COLOURS = {"apple": (200, 30, 40), "lime": (60, 200, 50), "plum": (90, 30, 140)}


def paint(folder, counts, *, seed=0):
    """Noisy pictures of one colour, of many sizes and two formats."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            height, width = random.integers(20, 70, 2)
            noise = random.integers(-30, 30, (height, width, 3))
            pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
            suffix = "png" if number % 2 else "jpg"
            Image.fromarray(pixels).save(folder / name / f"{number:03}.{suffix}")
    return folder


@pytest.fixture
def fruit(tmp_path):
    return paint(tmp_path / "fruit", {"apple": 20, "lime": 15, "plum": 10})


def of(folder, **more):
    return validate({"experiment": "EXP003", "dataset": "folder", "data_dir": str(folder), "model": "lenet", **more})


def test_every_fifth_picture_of_a_class_is_tested(fruit):
    dataset = load_dataset(of(fruit))
    assert dataset.classes == dataset.record.class_names == ("apple", "lime", "plum")
    assert np.bincount(dataset.train.labels).tolist() == [16, 12, 8]
    assert np.bincount(dataset.test.labels).tolist() == [4, 3, 2]
    assert dataset.train.images.shape[1:] == (3, 32, 32)
    for split in (dataset.train, dataset.test):  # each picture beside its own label
        seen = split.images.float().mean((2, 3)).numpy()
        nearest = np.abs(seen[:, None] - np.array(list(COLOURS.values()))).sum(2).argmin(1)
        assert nearest.tolist() == split.labels.tolist()


def test_pictures_are_decoded_to_the_size_that_the_model_sees(fruit):
    dataset = load_dataset(of(fruit, model="resnet18", image_size=48))
    assert dataset.train.images.shape[1:] == (3, 48, 48)
    assert "48 pixels" in dataset.record.source
    assert dataset.record.sha256 != load_dataset(of(fruit)).record.sha256


def test_train_and_test_folders_are_taken_as_they_are(tmp_path):
    paint(tmp_path / "own/train", {"apple": 3, "lime": 2})
    paint(tmp_path / "own/test", {"apple": 1, "lime": 4})
    dataset = load_dataset(of(tmp_path / "own"))
    assert np.bincount(dataset.train.labels).tolist() == [3, 2]
    assert np.bincount(dataset.test.labels).tolist() == [1, 4]


def test_training_pictures_of_their_own_folder_do_not_lie_class_by_class(tmp_path):
    paint(tmp_path / "own/train", {"apple": 20, "lime": 20})
    paint(tmp_path / "own/test", {"apple": 2, "lime": 2})
    images, _ = load_images("folder", data_dir=str(tmp_path / "own"))
    assert set(images.labels[:10]) == {0, 1}  # whitening looks at the first images
    assert images.labels[images.train_size :].tolist() == [0, 0, 1, 1]


def test_the_split_is_of_the_pictures_and_not_of_the_order_in_which_they_were_taken(fruit):
    from cifar_report.data.pictures import read_picture

    images, _ = load_images("folder", data_dir=str(fruit))
    tested = {picture.tobytes() for picture in images.pixels[images.train_size :]}
    by_name = [[read_picture(file, 32).tobytes() for file in sorted((fruit / name).iterdir())] for name in COLOURS]
    places = [place for pictures in by_name for place, picture in enumerate(pictures) if picture in tested]
    assert len(places) == len(tested)
    assert len({place % 5 for place in places}) > 1  # not every fifth by name


def test_a_changed_picture_is_read_anew(fruit):
    before, _ = load_images("folder", data_dir=str(fruit))
    Image.new("RGB", (32, 32), "black").save(fruit / "apple" / "000.jpg")
    after, _ = load_images("folder", data_dir=str(fruit))
    assert after.sha256 != before.sha256
    assert find_images(after.sha256).classes == ("apple", "lime", "plum")


def test_pictures_that_are_links_get_the_labels_of_their_folders(fruit, tmp_path):
    """What a link points to stays as it is when the link moves, or its folder gets another name."""
    for name in ("apple", "lime"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for file in sorted((fruit / name).iterdir()):
            (tmp_path / "own" / name / f"{name}-{file.name}").symlink_to(file)
    before, _ = load_images("folder", data_dir=str(tmp_path / "own"))
    moved = sorted((tmp_path / "own/apple").iterdir())[-1]
    moved.rename(tmp_path / "own/lime" / moved.name)
    after, _ = load_images("folder", data_dir=str(tmp_path / "own"))
    assert np.bincount(before.labels).tolist() == [20, 15]
    assert np.bincount(after.labels).tolist() == [19, 16]
    (tmp_path / "own/lime").rename(tmp_path / "own/lemon")
    assert load_images("folder", data_dir=str(tmp_path / "own"))[0].classes == ("apple", "lemon")


def test_hidden_files_are_no_pictures(fruit):
    (fruit / "apple" / "._000.jpg").write_bytes(b"of a Mac")
    assert len(load_images("folder", data_dir=str(fruit))[0].labels) == 45


def test_every_class_has_pictures_to_train_on(tmp_path, capsys):
    paint(tmp_path / "own", {"apple": 50, "lime": 10})
    words = ["run", "EXP003", "--profile", "quick", "--output", str(tmp_path / "out"), "--set"]
    sets = f"dataset=folder data_dir={tmp_path / 'own'} validation=holdout holdout_size=30"
    for dry in ([], ["--dry-run"]):
        assert main([*words, sets, *dry]) == 2
        assert "a class has too few images to train on" in capsys.readouterr().err
    folds = sets.replace("holdout holdout_size=30", "fold folds=45")  # of 40 apples
    assert main([*words, folds]) == 2
    assert "to train on or to validate with" in capsys.readouterr().err
    assert main([*words, sets.replace("=30", "=6"), "--dry-run"]) == 0
    assert "1 run to execute: about" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "does not exist"),
        (lambda f: paint(f, {"apple": 8}), "2 to 256 classes"),
        (lambda f: paint(f, {"apple": 8, "lime": 4}), "class lime in .* has too few pictures"),
        (lambda f: paint(f, {"apple": 8, "lime": 8, "plum": 0}), "class plum in .* has too few pictures"),
        (lambda f: (paint(f / "train", {"apple": 2, "lime": 2}), paint(f / "test", {"apple": 2})), "class lime"),
        (lambda f: (paint(f / "train", {"apple": 2}), paint(f / "test", {"apple": 2, "lime": 2})), "2 to 256 classes"),
        (lambda f: (paint(f, {"apple": 8, "lime": 8}) / "lime/a.HEIC").write_bytes(b""), "such as a.HEIC: make them"),
        (lambda f: paint(paint(f, {"apple": 8, "lime": 8}) / "lime", {"plum": 2}), "left out: put the pictures"),
        (lambda f: (paint(f, {"apple": 8, "lime": 8}) / "lime/bad.png").write_bytes(b"no"), "bad.png cannot be read"),
        (lambda f: (paint(f, {"apple": 8, "lime": 8}) / "lime/to.png").symlink_to("nowhere"), "to.png cannot be read"),
    ],
)
def test_what_is_no_dataset_is_refused_in_a_sentence(tmp_path, make, message):
    make(tmp_path / "own")
    with pytest.raises(RequestError, match=message):
        load_dataset(of(tmp_path / "own"))


def test_a_folder_needs_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR_REPORT_DATA", str(tmp_path))
    with pytest.raises(RequestError, match="dataset=folder needs data_dir"):
        load_dataset(validate({"dataset": "folder"}))


@pytest.mark.parametrize("model", ["net", "fastnet", "resnet18", "efficientnet_b0"])
def test_a_network_gets_as_many_outputs_as_there_are_classes(model):
    import torch

    from cifar_report.training.build import build_model

    network = build_model(validate({"model": model}), 3)[0].eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_what_a_mac_packs_into_a_zip_is_left_out(fruit):
    before = load_dataset(of(fruit)).record.sha256
    (fruit / "__MACOSX" / "apple").mkdir(parents=True)
    (fruit / "__MACOSX" / "apple" / "._1.jpg").write_bytes(b"notes")
    assert load_dataset(of(fruit)).record.sha256 == before


def test_the_folders_of_a_split_may_have_capitals(tmp_path):
    for part in ("Train", "Test"):
        paint(tmp_path / "own" / part, {"apple": 6, "lime": 6})
    assert load_dataset(of(tmp_path / "own")).record.train_size == 12


@pytest.mark.parametrize("parts", [("train", "val"), ("Train", "val"), ("train",)])
def test_pictures_to_train_on_without_any_to_test_with_are_refused(tmp_path, parts):
    for part in parts:
        paint(tmp_path / "own" / part, {"apple": 6, "lime": 6})
    with pytest.raises(RequestError, match="in train/ and test/"):
        load_dataset(of(tmp_path / "own"))


def test_a_class_may_be_called_train(tmp_path):
    paint(tmp_path / "own", {"apple": 6})
    (tmp_path / "own" / "apple").rename(tmp_path / "own" / "train")
    assert load_dataset(of(paint(tmp_path / "own", {"lime": 6}))).classes == ("lime", "train")


def test_pictures_that_are_tested_and_trained_on_are_counted(tmp_path):
    paint(tmp_path / "own/train", {"apple": 3, "lime": 2})
    paint(tmp_path / "own/test", {"apple": 3, "lime": 2}, seed=1)
    assert "trained on" not in load_dataset(of(tmp_path / "own")).record.source
    for name in ("again.png", "once more.png"):
        shutil.copy(tmp_path / "own/train/lime/001.png", tmp_path / "own/test/lime" / name)
    assert "(2 of its 7 test pictures also trained on)" in load_dataset(of(tmp_path / "own")).record.source


def test_folders_beside_train_and_test_are_not_read_and_it_is_said(tmp_path):
    own = tmp_path / "own"
    for part in ("train", "test"):
        paint(own / part, {"apple": 3, "lime": 2})
    before = load_dataset(of(own)).record
    paint(own / "val", {"apple": 3, "lime": 2})
    (own / ".git").mkdir()
    with_val = load_dataset(of(own)).record
    assert with_val.sha256 == before.sha256
    assert ", without its folder val" in with_val.source


@pytest.mark.slow
def test_a_journal_of_ones_own_pictures(fruit, tmp_path, capsys, no_pdf):
    output = tmp_path / "out"
    sets = ["dataset=folder", f"data_dir={fruit}", "epochs=6", "train_limit=null", "test_limit=null", "batch_size=8"]
    words = [word for given in sets for word in ("--set", given)]
    assert main(["report", "EXP003", "--profile", "quick", "--output", str(output), "--jobs", "1", *words]) == 0
    record = read_record(output / "runs/exp003/seed-0")
    assert record.data.classes == ("apple", "lime", "plum")
    assert record.test.accuracy > 0.9
    html = (output / "report/report.html").read_text()
    assert "Not CIFAR-10." in html
    assert ("<title>What changes the score on these images?</title>" in html, "score on CIFAR-10" in html) == (
        True,
        False,
    )
    assert "a folder of pictures, decoded to 32 pixels in place of CIFAR-10" in html
    assert '<th scope="col">plum</th>' in html
    assert "data_dir=FOLDER" in html  # in the command that does it again
    assert "says of the original report is about CIFAR-10." in html
    for part in (
        "Hypotheses.",
        "What we expected of these experiments",
        "Possible improvements",
        "show that the journal",
    ):
        assert (part in html) is (part == "show that the journal")  # six epochs of EXP003's twenty
    assert "What is open." not in html  # where nothing is compared
    capsys.readouterr()
    assert main(["predict", "--experiment", "EXP003", str(fruit / "plum/001.png"), "--output", str(output)]) == 0
    assert "plum" in capsys.readouterr().out
