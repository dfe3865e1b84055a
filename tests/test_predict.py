import contextlib
import csv
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFile
from records import write_run

from cifar_report.cli import main
from cifar_report.data.dataset import load_dataset
from cifar_report.data.pictures import read_picture
from cifar_report.experiments.errors import RequestError
from cifar_report.predict import predict
from cifar_report.records.record import run_folder
from cifar_report.run import Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A LeNet trained on digits; returns its output folder and its dataset."""
    from cifar_report.experiments.schema import validate

    output = tmp_path_factory.mktemp("run")
    given = {"experiment": "EXP003", "dataset": "digits", "model": "lenet", "output_dir": str(output)}
    parameters = validate({**given, "epochs": 1, "train_limit": 100, "test_limit": 50})
    run = Run.start(parameters.model_dump(), family="initialization")
    run.load_dataset()
    run.build_model()
    run.train()
    run.evaluate()
    run.complete()
    return output, load_dataset(parameters), run.evaluation


def save(pixels, path):
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)


def test_pictures_get_the_predictions_of_the_run(finished, tmp_path):
    output, dataset, evaluation = finished
    for number in range(6):
        save(dataset.test.images[number], tmp_path / f"{number}.png")
    predictions, unreadable = predict([tmp_path], run_folder(output, "EXP003", 0), top=10)
    assert unreadable == []
    assert [p.path.name for p in predictions] == [f"{n}.png" for n in range(6)]
    for number, prediction in enumerate(predictions):
        expected = evaluation.logits.softmax(1)[number]
        assert prediction.classes[0][0] == dataset.classes[int(expected.argmax())]
        assert sum(share for _, share in prediction.classes) == pytest.approx(1, abs=1e-5)
        assert prediction.classes[0][1] == pytest.approx(float(expected.max()), abs=1e-3)


def test_of_folds_the_first_predicts_and_is_named(finished, tmp_path, capsys):
    output, dataset, _ = finished
    save(dataset.test.images[0], tmp_path / "0.png")
    for fold in ("fold-1-of-2", "fold-0-of-2"):
        shutil.copytree(run_folder(output, "EXP003", 0), tmp_path / "runs" / "exp003" / f"seed-0-{fold}")
    words = ["predict", str(tmp_path / "0.png"), "--experiment", "EXP003", "--output", str(tmp_path)]
    assert main(words) == 0
    assert capsys.readouterr().err == "cifar-report: with the weights of seed-0-fold-0-of-2\n"
    assert main([*words, "--seed", "1"]) == 2


def test_pictures_of_any_size_and_mode_become_the_central_square(tmp_path):
    wide = np.zeros((64, 128, 3), dtype=np.uint8)
    wide[:, 32:96] = (10, 200, 30)  # the central square
    Image.fromarray(wide).save(tmp_path / "wide.png")
    picture = read_picture(tmp_path / "wide.png", 32)
    assert picture.shape == (3, 32, 32)
    assert [int(v) for v in picture[:, 0, 0]] == [10, 200, 30]
    turned = Image.Exif()
    turned[0x0112] = 6  # held upright: to be turned by a quarter, clockwise
    tall = np.zeros((64, 64, 3), dtype=np.uint8)
    tall[:, :32] = (200, 10, 30)  # its left half will be on top
    Image.fromarray(tall).save(tmp_path / "phone.png", exif=turned)
    assert [int(v) for v in read_picture(tmp_path / "phone.png", 32)[0, :, 0]] == [200] * 16 + [0] * 16
    Image.fromarray(tall).save(tmp_path / "broken.png", exif=b"Exif\x00\x00nonsense")
    assert [int(v) for v in read_picture(tmp_path / "broken.png", 32)[0, 0, :]] == [200] * 16 + [0] * 16
    Image.fromarray(np.full((10, 10), 77, dtype=np.uint8)).save(tmp_path / "grey.png")
    assert (read_picture(tmp_path / "grey.png", 32) == 77).all()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_of_an_unknown_scale_are_refused(tmp_path, kind):
    """They would be black."""
    Image.fromarray(np.full((10, 10), 0.9 if kind is np.float32 else 200, dtype=kind)).save(tmp_path / "raw.tiff")
    with pytest.raises(ValueError, match="the scale of its values is not known"):
        read_picture(tmp_path / "raw.tiff", 32)


def test_transparency_lies_over_white_and_16_bit_grey_is_scaled(tmp_path):
    clear = np.zeros((10, 10, 4), dtype=np.uint8)
    clear[:, :5] = (200, 10, 30, 255)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    seen = read_picture(tmp_path / "clear.png", 32)
    assert [int(v) for v in seen[:, 0, 0]] == [200, 10, 30]
    assert [int(v) for v in seen[:, 0, -1]] == [255, 255, 255]
    Image.fromarray(np.full((10, 10), 200 * 256 + 7, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert (read_picture(tmp_path / "deep.png", 32) == 200).all()


def test_damaged_and_huge_pictures_are_skipped_with_their_names(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)  # WeasyPrint, of other tests, sets it
    output, dataset, _ = finished
    save(dataset.test.images[0], tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    at = content.index(b"IDAT")
    for number, change in enumerate((at, at + 4, len(content) - 20)):
        damaged = bytearray(content)
        damaged[change] ^= 0xFF
        (tmp_path / f"damaged-{number}.png").write_bytes(damaged)
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")  # a few kilobytes
    found, skipped = predict([tmp_path], run_folder(output, "EXP003", 0))
    assert [prediction.path.name for prediction in found] == ["a.png"]
    reasons = {path.name: reason for path, reason in skipped}
    assert sorted(reasons) == ["damaged-0.png", "damaged-1.png", "damaged-2.png", "huge.png"]
    assert reasons["huge.png"] == "9000 x 9000 pixels are more than 64,000,000"


def test_no_cell_is_a_formula(finished, tmp_path, capsys):
    output, dataset, _ = finished
    save(dataset.test.images[0], tmp_path / "=1+1.png")
    with contextlib.chdir(tmp_path):
        assert main(["predict", "=1+1.png", "--experiment", "exp003", "--output", str(output.resolve()), "--csv"]) == 0
    assert next(csv.DictReader(capsys.readouterr().out.splitlines()))["picture"] == "'=1+1.png"


def test_command_skips_what_it_cannot_read_and_prints_csv(finished, tmp_path, capsys):
    output, dataset, _ = finished
    save(dataset.test.images[0], tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    (tmp_path / "photo.heic").write_bytes(b"of a phone")
    words = ["predict", str(tmp_path), "--experiment", "exp003", "--output", str(output)]
    assert main([*words, "--top", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{tmp_path / 'good.png'}: ")
    assert printed.out.count("%") == 2
    for name in ("bad.png", "photo.heic"):
        assert f"skipped {tmp_path / name}: not a picture" in printed.err
    assert main([*words, "--csv", "--top", "2"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert float(rows[0]["probability"]) >= float(rows[1]["probability"])


def test_missing_run_and_missing_picture_are_errors(finished, tmp_path, capsys):
    output, *_ = finished
    with pytest.raises(RequestError, match="no complete run"):
        predict([tmp_path], tmp_path / "nowhere")
    assert main(["predict", str(tmp_path / "x.png"), "--experiment", "EXP003", "--output", str(output)]) == 2
    assert "there is no file or folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(tmp_path / "empty"), "--experiment", "EXP003", "--output", str(output)]) == 2
    assert "there is no picture in" in capsys.readouterr().err


def test_a_run_without_its_weights_classifies_nothing(tmp_path, capsys):
    """As the committed records are."""
    write_run(tmp_path, "EXP003")
    command = ["predict", "x.png", "--experiment", "EXP003", "--profile", "quick", "--output", str(tmp_path)]
    assert main(command) == 2
    assert "has no trained weights" in capsys.readouterr().err


def test_pictures_that_cannot_be_read_alone_are_an_error(finished, tmp_path, capsys):
    (tmp_path / "x.png").write_text("no picture")
    command = ["predict", str(tmp_path / "x.png"), "--experiment", "EXP003", "--output", str(finished[0])]
    assert main([*command, "--profile", "quick"]) == 2
    assert "skipped" in capsys.readouterr().err
