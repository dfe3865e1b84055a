import base64
import io
import itertools
import re
from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from records import write_run

from cifar_report.data.dataset import load_dataset
from cifar_report.experiments.catalog import load_catalog
from cifar_report.journal.journal import Journal
from cifar_report.journal.statistics import calibration
from cifar_report.records.record import run_folder, write_record
from cifar_report.report import confusion_matrix, image_grids, plots
from cifar_report.training.evaluation import Evaluation


def drawing(picture):
    """The drawing as it stands in the page."""
    source = re.search(r'src="data:image/svg\+xml,([^"]*)"', picture.__html__())
    assert source is not None
    return ElementTree.fromstring(unquote(source[1]))


def test_learning_curves_say_what_they_show(tmp_path):
    run = write_run(tmp_path, "EXP003")
    picture = plots.learning_curves({"EXP003": [run.epochs]})
    assert drawing(picture).tag.endswith("svg")
    assert "validation loss lowest at epoch 2 (1.00) and 1.40 at the end" in picture.alt
    assert "70.00\N{NO-BREAK SPACE}%" in picture.alt


def test_learning_curves_give_their_values_and_where_they_are_drawn(tmp_path):
    runs = [write_run(tmp_path, "EXP003", seed=seed, validation_losses=(1.5, 1.0, 1.2 + seed)) for seed in (0, 1)]
    losses, accuracies = plots.learning_curves(plots.histories(runs)).panels
    assert losses["series"]["EXP003 validation"] == [1.5, 1.0, 1.7]  # means over seeds
    assert accuracies["series"]["EXP003"] == [66, 68, 70]
    for panel in (losses, accuracies):
        left, top, right, bottom = panel["box"]
        assert 0 < left < right < 1
        assert 0 < top < bottom < 1
        assert panel["x"][0] < 1 < 3 < panel["x"][1]


def test_several_seeds_are_a_line_and_a_band(tmp_path):
    runs = [write_run(tmp_path, "EXP003", seed=seed, validation_losses=(1.5, 1.0 + seed)) for seed in (0, 1)]
    one, two = (plots.learning_curves(plots.histories(some)).svg for some in (runs[:1], runs))
    assert "FillBetween" in two
    assert "FillBetween" not in one


def test_a_legend_of_long_names_has_fewer_columns(tmp_path):
    def lines_of_legend(names):
        runs = [write_run(tmp_path, "EXP003").model_copy(update={"experiment": name}) for name in names]
        drawn = plots.learning_curves(plots.histories(runs))
        return drawn.height - plots.learning_curves(plots.histories(runs[:1])).height

    short, long = [f"EXP{n:03}" for n in range(4)], [f"EXP001-BATCH_SIZE-{n}" for n in (16, 32, 64, 128)]
    assert lines_of_legend(short) == 20  # one line of five
    assert lines_of_legend(long) == 40  # two of three


def test_bands_of_many_experiments_would_hide_each_other(tmp_path):
    names = [f"EXP{n:03}" for n in range(1, 11)]
    runs = [write_run(tmp_path, name, seed=seed) for name in names for seed in (0, 1)]
    few, many = (plots.learning_curves(plots.histories(some)) for some in (runs[:16], runs[:18]))
    assert ("FillBetween" in few.svg, "bands reach" in few.remark) == (True, True)
    assert ("FillBetween" in many.svg, "bands reach" in many.remark) == (False, False)
    assert "means over seeds or folds" in many.remark


def test_numbers_in_words_keep_their_digits(tmp_path):
    run = write_run(tmp_path, "EXP003", validation_losses=(2.3026, 2.3029, 2.3031, 2.3035))
    flat = [epoch.model_copy(update={"train_loss": 2.303}) for epoch in run.epochs]
    ticks = "".join(drawing(plots.learning_curves({"EXP003": [flat]})).itertext())
    assert "2.3030" in ticks
    picture = plots.bars({"a": 0.00123, "b": 0.00456}, "x", label="y")
    assert "0.00123" in "".join(drawing(picture).itertext())


def test_what_experiments_build_on_is_dotted(tmp_path):
    runs = {name: [write_run(tmp_path, name).epochs] for name in ("EXP003", "EXP007")}
    picture = plots.learning_curves({"EXP007": runs["EXP007"]}, {"EXP003": runs["EXP003"]})
    assert "EXP003: training loss" in picture.alt
    assert "stroke-dasharray" in picture.svg
    assert "stroke-dasharray" not in plots.learning_curves({"EXP007": runs["EXP007"]}).svg


def test_same_figure_same_bytes(tmp_path):
    run = write_run(tmp_path, "EXP003")
    one, two = (plots.learning_curves({"EXP003": [run.epochs], "EXP004": [run.epochs]}) for _ in range(2))
    assert one.svg == two.svg


def test_experiments_of_a_family_look_different_and_always_the_same():
    for family in load_catalog().families:
        looks = list(plots.appearances([entry.id for entry in family.experiments]).values())
        assert len({colour for colour, _ in looks}) == len(looks)
        if len(looks) <= len(plots.STYLES):  # more cannot be told apart in grey
            assert len({str(style) for _, style in looks}) == len(looks)
    assert [*plots.appearances(["EXP004"]).values()] == [*plots.appearances(["exp004"]).values()]


def _lab(colour: str, seen_as: np.ndarray) -> np.ndarray:
    """A colour in CIELAB, as an eye sees it whose linear RGB is `seen_as` times ours."""
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(seen_as @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


EYES = {  # Machado, Oliveira and Fernandes 2009, severity 1
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("eye", EYES)
def test_colours_of_one_line_style_can_be_told_apart(eye):
    seen = [_lab(colour, np.array(EYES[eye])) for colour in plots.COLOURS]
    pairs = itertools.combinations(range(len(seen)), 2)
    same_style = [(one, two) for one, two in pairs if (one - two) % len(plots.STYLES) == 0]
    assert min(np.linalg.norm(seen[one] - seen[two]) for one, two in same_style) > 28


def test_a_curves_text_is_about_the_line_that_is_drawn(tmp_path):
    one, two = (write_run(tmp_path, "EXP003", seed=seed).epochs for seed in range(2))
    two = [epoch.model_copy(update={"validation_accuracy": epoch.validation_accuracy - 0.1}) for epoch in two]
    picture = plots.learning_curves({"EXP003": [one, two]})
    drawn = picture.panels[1]["series"]["EXP003"][-1]
    assert drawn == pytest.approx(100 * (one[-1].validation_accuracy - 0.05), abs=0.01)
    assert "EXP003 (mean of 2 runs): training loss" in picture.alt
    assert f"final validation accuracy {drawn:.2f}\N{NO-BREAK SPACE}%" in picture.alt


def test_experiments_of_ones_own_look_like_no_other_of_the_figure():
    own = [f"EXP003-LR-{lr}" for lr in ("0_003", "0_03", "0_1", "0_3", "1")]
    looks = plots.appearances(["EXP003", "EXP004", *own])
    assert len(set(looks.values())) == len(looks)
    assert len({colour for colour, _ in looks.values()}) == len(looks)  # as long as there are colours
    assert (looks["EXP003"], looks["EXP004"]) == tuple(plots.appearances(["EXP003", "EXP004"]).values())
    assert len(plots.appearances([*map(str, range(40))])) == 40


def test_confusion_matrix_names_the_most_frequent_mistake():
    counts = np.diag([90] * 10)
    counts[3, 5] = 10
    table = confusion_matrix.confusion_matrix(counts, [f"class {k}" for k in range(10)])
    assert "900 of 910 images are right" in table.text
    assert "10 images of class 3 taken for class 5" in table.text
    faultless = confusion_matrix.confusion_matrix(np.diag([90] * 10), [f"class {k}" for k in range(10)])
    assert faultless.text == "Confusion matrix. 900 of 900 images are right."
    assert "<td><b>90.0</b></td><td>82.6–94.5</td>" in table.html  # 90 of 100, Wilson


def test_confusion_matrix_of_a_class_without_images():
    counts = np.diag([10] * 9 + [0])
    assert "<b>–</b>" in confusion_matrix.confusion_matrix(counts, [str(k) for k in range(10)]).html


def test_shades_keep_their_text_legible():
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for count in range(2, 101):
        paper, ink = re.search(r"background:(#\w+);color:(#\w+)", confusion_matrix._shade(count / 100)).groups()
        ink = "#" + 2 * ink[1:] if len(ink) == 4 else ink
        dark, light = sorted([luminance(paper), luminance(ink)])
        assert (light + 0.05) / (dark + 0.05) >= 4.5, count  # WCAG 2.2, 1.4.3


def test_a_leap_presses_no_curve_flat(tmp_path):
    """EfficientNet's validation loss was once 22 after an epoch."""
    calm = write_run(tmp_path, "EXP001", validation_losses=(1.5, 1.0, 1.2, 2.9))
    leaping = write_run(tmp_path, "EXP002", validation_losses=(1.5, 22.0, 1.2, 1.4))
    low, high = (plots.learning_curves(plots.histories(runs)) for runs in ([calm], [calm, leaping]))
    assert (low.remark, high.remark) == ("", "; losses have a logarithmic axis")
    assert high.panels[0]["series"]["EXP002 validation"][1] == 22.0  # who asks for the value gets it


def test_a_colour_of_the_ladder_is_one_family(tmp_path):
    families = load_catalog().families
    for family in families:
        write_run(tmp_path, family.experiments[0].id)
    svg = plots.accuracy_ladder(list(Journal(tmp_path).complete.values())).svg
    assert all(f">{family.title}<" in svg for family in families)
    intervals = re.search(r'<g id="LineCollection_1">(.*?)</g>', svg)
    colours = re.findall(r"stroke: (#\w+)", intervals[1])
    assert len(colours) == len(set(colours)) == len(families)


def test_a_ladder_has_any_title_and_the_whole_name_of_a_sweep(tmp_path):
    write_run(tmp_path, "EXP003")
    (result,) = Journal(tmp_path).complete.values()
    name = "EXP003-LR-0_003-WEIGHT_DECAY-1E_05-AUGMENT-CROP_HORIZONTAL_FLIP"
    titles = {"EXP003": "cost $x^$ and $lr", "EXP004": "学习率 0.02", name: "lr = 0.003"}
    entries = [result.entry.model_copy(update={"id": of, "title": title}) for of, title in titles.items()]
    svg = plots.accuracy_ladder([replace(result, entry=entry) for entry in entries]).svg
    assert "EXP003 cost $x^$ and $lr" in svg
    assert "学习率" in svg
    assert name in svg


def test_ladder_tells_range_and_best(tmp_path):
    write_run(tmp_path, "EXP001", 0.7)
    write_run(tmp_path, "EXP003", 0.76)
    picture = plots.accuracy_ladder(list(Journal(tmp_path).complete.values()))
    assert "from 70.00 % to 76.00 % (EXP003" in picture.alt
    assert "original report" in picture.svg
    assert "other budget, data or" not in picture.svg
    write_run(tmp_path, "EXP003", 0.76, parameters={"epochs": 3})
    mixed = plots.accuracy_ladder(list(Journal(tmp_path).complete.values()))
    assert "other budget, data or" in mixed.svg
    write_run(tmp_path, "EXP001", 0.76, parameters={"epochs": 3})
    assert "original report" not in plots.accuracy_ladder(list(Journal(tmp_path).complete.values())).svg


def test_effects_are_ordered_and_told_apart_by_their_verdicts(tmp_path):
    """Each comparison is in one of the groups, the highest difference first; the names are as long as they may be."""
    for seed in range(3):
        for name, accuracy in (("EXP001", 0.7), ("EXP003", 0.8), ("EXP004", 0.702), ("EXP005", 0.6), ("EXP006", 0.705)):
            write_run(tmp_path, name, accuracy + 0.001 * seed * (-2 if name == "EXP004" else 1), seed=seed)
    journal = Journal(tmp_path)
    comparisons = list(journal.comparisons.values())
    titles = {c.experiment: "A title that " + "goes on and " * 9 for c in comparisons} | {"EXP006": "A $title$"}
    results = {
        name: replace(result, entry=result.entry.model_copy(update={"title": titles.get(name, "")}))
        for name, result in journal.complete.items()
    }
    picture = plots.effects(comparisons, results)
    assert picture.alt.startswith("4 comparisons with 95 % intervals: 2 better, 1 equivalent, 1 worse; from EXP003 ")
    assert " to EXP005 against EXP001 −10.00 " in picture.alt
    assert [picture.svg.index(f"{name} − EXP001") for name in ("EXP003", "EXP006", "EXP004", "EXP005")] == sorted(
        picture.svg.index(f"{name} − EXP001") for name in ("EXP003", "EXP004", "EXP005", "EXP006")
    )
    assert "A $title$: EXP006" in picture.svg
    assert "…: EXP003" in picture.svg
    assert set(plots.EFFECTS) == {"better", "equivalent", "open", "worse"}


def test_reliability_tells_its_error():
    curve = calibration(np.full(100, 0.9), np.arange(100) < 70)
    assert plots.reliability(curve, "EXP003").alt.endswith("error 20.0 points; given 90\xa0%, 70\xa0% are right.")
    few = calibration(np.full(9, 0.9), np.arange(9) < 7)  # of which no share is drawn
    assert plots.reliability(few, "EXP003").alt.endswith("error 12.2 points.")


def test_pictures_escape_what_they_say(tmp_path):
    picture = plots.bars({"<b>": 1.0}, '"><script>alert(1)</script>', label="<script>alert(2)</script>")
    assert "<script>" not in picture.__html__()
    assert "<b>" in "".join(drawing(picture).itertext())
    assert picture._repr_mimebundle_()["text/plain"] == picture.alt
    grid = image_grids.image_grid(np.zeros((1, 3, 2, 2), np.uint8), ["<script>"], '"><script>')
    assert "<script>" not in grid.html
    assert "<script>" not in confusion_matrix.confusion_matrix(np.eye(2, dtype=int), ["<script>", "b"]).html


def test_histories_are_those_of_each_experiments_seeds(tmp_path):
    runs = [write_run(tmp_path, "EXP003", seed=seed) for seed in (0, 1)] + [write_run(tmp_path, "EXP004")]
    found = plots.histories(runs)
    assert {name: len(several) for name, several in found.items()} == {"EXP003": 2, "EXP004": 1}


@pytest.mark.parametrize("limit", [30, 12, 3])
def test_classes_grid_shows_each_class_in_its_column(limit):
    """Each image has the grey of its class; where a class has fewer than three, the rest of its column is white."""
    labels = np.arange(limit, dtype=np.uint8) % 10
    pixels = np.broadcast_to(20 * labels[:, None, None, None], (limit, 3, 8, 8))
    grid = image_grids.classes_grid(pixels, labels, [str(k) for k in range(10)])
    pngs = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]*)", grid.html)]
    greys = [int(np.asarray(Image.open(io.BytesIO(png)))[0, 0, 0]) for png in pngs]
    assert len(greys) % 10 == 0
    for at, grey in enumerate(greys):
        assert grey == (20 * (at % 10) if at < limit else 255)


def test_a_perfect_model_has_no_mistakes_to_show(tiny):
    dataset = load_dataset(tiny())
    perfect = Evaluation(torch.nn.functional.one_hot(dataset.test.labels, 10).float(), dataset.test.labels)
    predictions = perfect.predictions(dataset.test_index)
    shown = image_grids.confident_mistakes(dataset.test.images.numpy(), predictions, dataset.classes)
    assert shown.text == "Most confident mistakes: none."


def test_the_front_is_what_nothing_cheaper_reaches():
    assert plots.cheapest([3, 1, 2, 2, 4], [0.9, 0.5, 0.6, 0.7, 0.8]) == [1, 3, 0]
    assert plots.cheapest([1, 1], [0.5, 0.5]) == [0]


def test_accuracy_against_cost_names_the_front_and_marks_what_is_ours(tmp_path):
    for name, cost, accuracy in (
        ("EXP000", 0.003, 0.6),
        ("EXP003", 0.02, 0.75),
        ("EXP011", 0.2, 0.7),
        ("EXP029", 0.06, 0.9),
    ):
        run = write_run(tmp_path, name, accuracy)
        write_record(run_folder(tmp_path, name, 0), run.model_copy(update={"training_pflop": cost}))
    record = write_run(tmp_path, "EXP012", 0.8)  # of a family with pretrained weights, and without them
    write_record(run_folder(tmp_path, "EXP012", 0), record.model_copy(update={"weights": None, "training_pflop": 0.3}))
    picture = plots.accuracy_against_cost(list(Journal(tmp_path).complete.values()))
    assert picture.svg.count("Transfer learning<") + picture.svg.count("<!-- Transfer learning -->") == 1
    assert picture.alt.endswith("EXP003 75.0 % for 0.02 PFLOP, EXP029 90.0 % for 0.06 PFLOP.")
    assert "EXP011" not in picture.svg
    titles = [family.title for family in load_catalog().families if family.title in picture.svg]
    assert titles == ["The baseline", "Initial weights", "Transfer learning", "A fast recipe, idea by idea"]
