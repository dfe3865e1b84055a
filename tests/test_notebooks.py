"""The notebooks as they stand in the repository, and each run by itself, from an empty folder."""

import ast
import difflib
import dis
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from forked_notebook import execute
from papermill.inspection import inspect_notebook
from write_notebooks import form_field

from cifar_report.execution.execute import execute_plan
from cifar_report.execution.plan import make_plan
from cifar_report.experiments.catalog import load_catalog, load_experiment, packaged_folder, read_yaml
from cifar_report.experiments.schema import Experiment, validate
from cifar_report.records.key import COLAB, LESSON
from cifar_report.records.record import read_record
from cifar_report.report import plots
from cifar_report.training.inputs import STATISTICS

FAMILIES = load_catalog().families
NOTEBOOKS = [family.notebook_path for family in FAMILIES]
ALL = [*NOTEBOOKS, *(packaged_folder("notebooks") / f"{name}.ipynb" for name in ("report", "colab_full_journal"))]


def by_name(path: Path) -> str:
    return path.stem


def parameters_of(path: Path) -> dict:
    """Values that the notebook's parameters cell gives, evaluated as literals."""
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    given = [(node.targets[0].id, ast.literal_eval(node.value)) for node in ast.parse(cell.source).body]  # type: ignore
    assert len(dict(given)) == len(given), "a parameter is given twice"
    return dict(given)


def test_one_notebook_a_family_numbered_in_reading_order():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{n:02}" for n in range(len(FAMILIES))]
    assert sorted(path.name for path in packaged_folder("notebooks").glob("*.ipynb")) == sorted(p.name for p in ALL)


@pytest.mark.parametrize("path", ALL, ids=by_name)
def test_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert not any(
                isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.walk(ast.parse(cell.source))
            )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_parameters_cell_holds_the_schema_and_its_experiment(family):
    given = parameters_of(family.notebook_path)
    assert sorted(given) == sorted(Experiment.model_fields)
    assert validate(given) == load_experiment(given["experiment"])
    assert given["experiment"] in {entry.id for entry in family.experiments}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_parameters_cell_opens_with_what_the_family_is_about(family):
    cells = nbformat.read(family.notebook_path, as_version=4).cells
    (source,) = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
    opening, rest = source.split("\n\n# The rest: data, budget, places\n")
    first = [node.targets[0].id for node in ast.parse(opening).body]
    assert first[:2] == ["experiment", "seed"]
    assert "epochs" in first
    assert len(first) <= 8
    members = [load_experiment(entry.id) for entry in family.experiments if entry.reference_accuracy]  # the original's
    varied = {name for one in members for name in one.differences(members[0])}
    assert varied <= set(first)
    others = [node.targets[0].id for node in ast.parse(rest).body]
    assert others == [name for name in Experiment.model_fields if name not in first]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_parameter_file_over_the_notebook_is_the_experiment(family):
    """`papermill -f params/expNNN.yaml` gives the same run as the pipeline does."""
    for entry in family.experiments:
        file = read_yaml(packaged_folder("params") / f"{entry.id.lower()}.yaml")
        assert validate({**parameters_of(family.notebook_path), **file}) == load_experiment(entry.id)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_papermill_lists_every_parameter_with_its_help(path):
    listed = inspect_notebook(str(path))
    assert sorted(listed) == sorted(Experiment.model_fields)
    for name, field in Experiment.model_fields.items():
        assert json.dumps(field.description.replace("null", "None"), ensure_ascii=False) in listed[name]["help"]
        assert listed[name]["help"] == form_field(name)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_notebook_tells_its_story_in_order(path):
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert text.startswith("# ")
    assert "**Question.**" in text
    family = next(each for each in load_catalog().families if each.notebook == path.name)
    says = "**The original report asks**" if family.beyond else "**The original report says.** "
    claim = text.partition(says)[2].partition("\n")[0]
    assert claim
    figures = {name: float(value) for value, name in re.findall(r"([\d.]+) % [^()]*\((EXP\d+)\)", claim)}
    assert figures == {entry.id: entry.reference_accuracy for entry in family.experiments if entry.reference_accuracy}
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    expected = ["## Parameters", "## Data", "## Model", "## Training", "## Results"]
    assert headings[:5] == expected
    assert headings[-1] == "## What this shows"
    assert any("motivation" in cell.metadata.get("tags", []) for cell in notebook.cells)


NO_RESULT = {"parameters", "colab", "lesson", "show"}


def result_cells(path: Path) -> list[str]:
    """The code cells whose content is in the key."""
    cells = nbformat.read(path, as_version=4).cells
    return [c.source for c in cells if c.cell_type == "code" and not NO_RESULT & set(c.metadata.get("tags", []))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_cells_without_a_tag_call_the_run_and_do_nothing_else(path):
    calls = []
    for source in result_cells(path):
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.ImportFrom):
                assert ast.unparse(statement) == "from cifar_report.run import Run"
            else:
                assert isinstance(statement, ast.Assign)
                assert isinstance(statement.value, ast.Call)
                calls.append(ast.unparse(statement.value.func))
    steps = ["load_dataset", "build_model", "train", "evaluate", "complete"]
    assert calls == ["Run.start", *(f"run.{step}" for step in steps)]


def tagged(cell, tag: str) -> bool:
    return tag in cell["metadata"].get("tags", [])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_every_family_notebook_teaches_in_words_and_code(path):
    lessons = [cell for cell in nbformat.read(path, as_version=4).cells if tagged(cell, LESSON)]
    assert lessons[0].cell_type == "markdown"
    assert lessons[0].source.startswith("### ")
    assert [cell for cell in lessons if cell.cell_type == "code"]


def names(source: str, operation: str) -> set[str]:
    """The variables that a cell stores or loads; those of comprehensions are their own."""
    found = {i.argval for i in dis.get_instructions(compile(source, "cell", "exec")) if i.opname == f"{operation}_NAME"}
    return found - {"print", "__annotations__"}


def imported(source: str) -> dict[str, str]:
    """What the names that a cell imports stand for."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else []:
            found[alias.asname or alias.name] = f"{getattr(node, 'module', '')}.{alias.name}"
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_lessons_leave_the_names_of_other_cells_alone(path):
    """A run must not read what a lesson has written."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    others = [cell.source for cell in cells if not tagged(cell, LESSON)]
    used = {name for source in others for name in names(source, "LOAD") | names(source, "STORE")}
    imports = {name: what for source in others for name, what in imported(source).items()}
    for lesson in (cell.source for cell in cells if tagged(cell, LESSON)):
        given = imported(lesson)
        assert all(imports.get(name, what) == what for name, what in given.items())
        assert not (names(lesson, "STORE") - set(given)) & used
        assert not names(lesson, "STORE") & set(Experiment.model_fields)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_picture_is_the_last_expression_of_its_cell(path):
    """Jupyter shows no other."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and not cell.source.startswith(("!", "%")):
            *before, _ = ast.parse(cell.source).body or [None]
            for line in before:
                shown = ast.unparse(line) if isinstance(line, ast.Expr) else ""
                assert not shown.startswith(("plots.", "image_grids.", "confusion_matrix.")), (cell.id, shown)


SHOWN = {  # by the lessons
    "baseline": ["10 of 10 tensors are equal to the last bit"],
    "architectures": ["equal to the network's own logits: True", "82,944 weights"],
    "initialization": ["equal to torch.nn.init: True"] * 4,
    "optimizers": [
        *[r"in 40 steps at most (0e\+00|\de-1[567]) apart"] * 4,
        r"SGD +loss times 100: weight \S*e\+0\d",
        r"Adam +loss times   1: weight (\S+) .*\nAdam +loss times 100: weight \1",
    ],
    "transfer": ["parameters: 11,689,512 before, 11,181,642 now", "same layers: True"],
    "frozen_transfer": [
        "resnet18: 8,398,858 of 11,181,642 parameters learn",
        r"'evaluate': .* weights move by at most 0\.0000, .* by at most 0\.0000",
        r"'train': .* weights move by at most 0\.0000, .* by at most \d\.\d*[1-9]",
        r"32 pixels: [1-9]\d* of 256, 64 pixels: [1-9]\d* of 256",
    ],
    "augmentation": ["flips equal to the library's: True", "at most [01] of 255 grey levels"],
    "fast_recipe": [
        r"after whitening, at most: 0\.0",
        r"at most (0e\+00|\de-0[4-7]) from the library's weights",
        "after epoch 2: at random 1,[45].*by turns 2,000",
        r"averaged by hand distance at the end (\S+)\nby the library   distance at the end \1",
        r"of Muon's step: 1\.\d times",
        r"with the exact matrix: 0\.9\d",
        *[rf"{how} +\d+\.\d% of 30 images are right" for how in ("as taken", "noise", "blur", "JPEG")],
        r"in the pixels: 0\.\d\d\nby channel of the first layer: \d+\.\d\d to \d+\.\d\d\nall channels together: \d+\.",
        *[r"temperature \d\.\d\d: expected calibration error \d+\.\d points"] * 2,
    ],
    "single_augmentation": [
        "7 augmentations of images, 2 of images and labels",
        r"at most 0\.[0-5] grey levels from the library's",
        r"the mixed losses differ from it by (0e\+00|\de-0[5-8])",
    ],
    "optimizer_initialization": [
        "constant .* 1 different filters",
        "xavier_uniform .* 16 different filters",
        r"the interaction is \d\.\d*[1-9]",
    ],
    "schedules": [
        *[r"at most (0e\+00|\de-1[5-9]) away from the formula"] * 3,
        r"constant, 0\.1 +after 100 steps 0\.2.*, at the end 0\.2",
        r"constant, 0\.007 .*, at the end 0\.0[56]",
        r"cosine, from 0\.1 +after 100 steps 0\.2.*, at the end 0\.06",
    ],
    "regularization": [
        r"PyTorch multiplies by: \[0\.0, 2\.0\]",
        "in evaluation nothing changes: True",
        r"92\.5% by the formula, 45\.\d% with momentum",
        *[r"Adam +with λ = 0\.00\d*: 8\d\.\d+%"] * 2,
        r"AdamW with λ = 0\.005: 99\.90%",
        r"by the formula (\d\.\d{5})\d, PyTorch \1",
        r"s = 0\.1: lowest where the right class has 0\.9(09|1)",
        *[r"eval\(\): image 0 in two batches of +\d+: 0\.000"] * 2,
        *[r"train\(\): image 0 in two batches of +\d+: 0\.\d*[1-9]"] * 2,
    ],
    "tuning": [
        r"trial  0: lr 0\.01, momentum 0\.9, .* batch_size 64: [\d.]+% after 3 epochs",
        r"trial  7: .* after [23] epochs",
        r"best: trial \d, [\d.]+% of [\d,]+ held-out images",
        *[rf"{name} +explains \d+%" for name in ("lr", "momentum", "weight_decay", "batch_size")],
    ],
    "transfer_images": [
        "as it is,  32 pixels: last map  1 x 1   0.08 GFLOP per image, the library 0.06",
        r"as it is, 128 pixels: .* 1\.19 GFLOP per image, the library 1\.19",
        "3 x 3 stem,  32 pixels: .* 1.11 GFLOP",
        *[r"pixels: at most [01] of 255 grey levels"] * 5,
    ],
    "normalization": [
        "cifar10 +is off by at most 0.0",
        r"library's at most \de-0[78]",
        r"train\(\): half 0\.[01]\d, .*another image [01]\.",
        r"eval\(\): half 0\.[4-9]\d, ",
    ],
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_lessons_show_what_they_say_and_leave_no_trace(family, tmp_path, capsys):
    given = {
        **parameters_of(family.notebook_path),
        "output_dir": str(tmp_path),
        "offline": "stand_in",
        "train_limit": 300,
    }
    given |= {"test_limit": 30} if os.environ.get("CIFAR_REPORT_DATA") else {"test_limit": 30, "dataset": "digits"}
    given |= {"image_size": 48} if given["image_size"] > 32 else {}
    told, past_training = "", False
    for cell in nbformat.read(family.notebook_path, as_version=4).cells:
        if cell.id == "training":  # nothing is trained here; lessons after it get the model as it is
            past_training = True
            given["model"].eval()
        if cell.cell_type != "code" or tagged(cell, "parameters") or (past_training and not tagged(cell, LESSON)):
            continue
        before = state(given.get("model"), tmp_path) if tagged(cell, LESSON) else []
        capsys.readouterr()
        exec(cell.source, given)
        if tagged(cell, LESSON):
            told += capsys.readouterr().out
            assert state(given["model"], tmp_path) == before
    for name, value in given.items():  # when the notebook is run again, these would pass for misspelt parameters
        if isinstance(value, bool | int | float | str | list | tuple) and name not in Experiment.model_fields:
            assert not difflib.get_close_matches(name, Experiment.model_fields, n=1, cutoff=0.85), name
    if given["dataset"].record.name == "cifar10" or family.name not in ("normalization", "fast_recipe"):  # of colours
        for words in SHOWN[family.name]:
            assert len(re.findall(words, told)) >= SHOWN[family.name].count(words), told


def test_the_lesson_on_normalization_takes_pictures_of_any_size(capsys):
    path = next(path for path in NOTEBOOKS if path.stem == "07_normalization")
    (cell,) = (cell for cell in nbformat.read(path, as_version=4).cells if cell.id == "normalize-drawn")
    images = torch.randint(256, (6, 3, 48, 48), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    dataset = SimpleNamespace(train=SimpleNamespace(images=images))
    exec(cell.source, {"dataset": dataset, "STATISTICS": STATISTICS, "plots": plots})
    assert re.findall(r"library's at most \de-0[78]", capsys.readouterr().out)


def state(model: object, folder: Path) -> list:
    """What a lesson could change by mistake: random states, the model, the run's folder."""
    assert isinstance(model, torch.nn.Module)
    weights = [(tensor.numpy().tobytes(), tensor.requires_grad) for tensor in model.state_dict().values()]
    modes = [module.training for module in model.modules()]
    drawn = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # type: ignore[index]
    return [weights, modes, drawn, sorted(folder.rglob("*"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EXP000", "EXP004"])
def test_pipeline_executes_no_lesson_and_its_run_is_the_same(name, tmp_path):
    overrides = {key: str(value) for key, value in QUICK.items()}
    (planned,) = make_plan([name], profile="quick", overrides=overrides, output_dir=tmp_path / "pipeline")
    (record,) = execute_plan([planned])
    assert record.status == "completed"
    cells = nbformat.read(planned.family.notebook_path, as_version=4).cells
    executed = nbformat.read(planned.folder / "notebook.ipynb", as_version=4).cells
    assert [c.id for c in executed if not tagged(c, "injected-parameters")] == [
        c.id for c in cells if not tagged(c, LESSON) and not tagged(c, COLAB)
    ]
    # The notebook with its lessons, as a student runs it.
    given = {**planned.parameters.model_dump(), "output_dir": str(tmp_path / "taught")}
    for cell in cells:
        if cell.cell_type == "code" and not tagged(cell, "parameters"):
            exec(cell.source, given)
    assert "twin" in given or "written" in given  # names that the lessons give
    taught = read_record(given["run"].folder)
    assert taught is not None
    assert taught.key == record.key
    assert (taught.test, taught.epochs[-1].train_loss) == (record.test, record.epochs[-1].train_loss)
    weights = "model.safetensors"
    assert (given["run"].folder / weights).read_bytes() == (planned.folder / weights).read_bytes()


QUICK = {"dataset": "digits", "train_limit": 64, "test_limit": 30, "epochs": 1, "batch_size": 32, "offline": "stand_in"}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_notebook_runs_by_itself_from_an_empty_folder(family, tmp_path):
    entry = family.experiments[-1]
    given = dict(QUICK)
    if load_experiment(entry.id).image_size > 32:
        given["image_size"] = 48
    if load_experiment(entry.id).validation == "holdout":
        given["holdout_size"] = 300
    file = packaged_folder("params") / f"{entry.id.lower()}.yaml"
    if family is FAMILIES[0]:  # as the guide says
        options = [text for name, value in given.items() for text in ("-p", name, str(value))]
        command = [sys.executable, "-m", "papermill", str(family.notebook_path), "out.ipynb", "-f", str(file), *options]
        command += ["-k", "python3", "--no-progress-bar"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    else:
        assert execute(family.notebook_path, tmp_path, {**read_yaml(file), **given}) == 0
    folder = tmp_path / "outputs" / "notebook" / "runs" / entry.id.lower() / "seed-0"
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {"run.json", "history.csv", "predictions.npz", "model.safetensors"}
    record = read_record(folder)
    assert record is not None
    assert (record.status, record.experiment, record.family) == ("completed", entry.id, family.name)
    assert record.data is not None
    assert (record.data.name, record.data.train_size, record.data.test_size) == ("digits", 64, 30)
    with np.load(folder / "predictions.npz") as stored:
        assert stored["logits"].dtype == np.float16
        assert stored["logits"].shape == (30, 10)
        assert record.test is not None
        assert (stored["predicted"] == stored["labels"]).sum() == record.test.correct
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    lessons = [cell for cell in executed if tagged(cell, LESSON) and cell.cell_type == "code"]
    assert lessons
    assert all(cell.execution_count for cell in lessons)
    # Lessons, pictures and texts change nothing: the cells that are in the key give the same weights by themselves.
    bare_parameters = {**parameters_of(family.notebook_path), **read_yaml(file), **given}
    bare_parameters["output_dir"] = str(tmp_path / "bare")
    exec("\n".join(result_cells(family.notebook_path)), bare_parameters)
    bare = tmp_path / "bare" / "runs" / entry.id.lower() / "seed-0"
    assert (bare / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    again = read_record(bare)
    assert again is not None
    assert again.key == record.key
    outputs = [
        output
        for cell in json.loads((tmp_path / "out.ipynb").read_text())["cells"]
        for output in cell.get("outputs", [])
    ]
    shown = ["".join(output["data"]["text/html"]) for output in outputs if "text/html" in output.get("data", {})]
    images = [image for html in shown for image in re.findall(r"<img [^>]*>", html)]
    plots = [image for image in images if "data:image/svg+xml" in image]
    assert len(plots) >= 2  # curves, of the run and the family
    assert all(re.search(r' alt="[^"]+"', plot) for plot in plots)
    assert len([image for image in images if "data:image/png" in image]) >= 30  # classes
    assert all(' alt="' in image for image in images)
    assert not [html for html in shown if re.search(r'<img [^>]*alt=""[^>]*>(?!<figcaption>)', html)]
    assert any('<table class="confusion"' in html for html in shown)
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_every_notebook_has_one_parameters_cell_that_papermill_reads():
    for path in ALL:
        cells = nbformat.read(path, as_version=4).cells
        assert len([cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]) == 1, path
    assert list(inspect_notebook(str(ALL[-1]))) == ["profile", "seeds", "only", "overrides"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "-3", "parameter 'epochs' in the notebook's parameters cell cannot be -3"),
        ("epoch", "3", "unknown parameter 'epoch' in the notebook's parameters cell; did you mean 'epochs'?"),
    ],
)
def test_wrong_parameters_stop_a_notebook_before_it_trains(tmp_path, name, value, message):
    command = [
        sys.executable, "-m", "papermill", str(NOTEBOOKS[0]), "out.ipynb", "-k", "python3", "--no-progress-bar",
        "-p", "dataset", "digits", "-p", name, value,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "outputs").exists()
