"""Which code of the library concerns a run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_report.experiments.schema import CHOICES, Experiment, allowed_values, validate
from cifar_report.records import code_digest as module
from cifar_report.records.code_digest import NO_RESULT, PACKAGE, ROOTS, code_digest, code_files

CORE = {
    *("data/dataset.py", "data/splits.py", "training/build.py", "training/evaluation.py", "training/frozen.py"),
    *("training/initialization.py", "training/inputs.py", "training/loop.py", "training/optimization.py"),
    *("training/precision.py", "training/averaging.py", "training/mixing.py", "training/whitening.py"),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the library, to be edited; digests are computed of it, anew whenever `library_code` forgets them."""
    copy = tmp_path / "cifar_report"
    shutil.copytree(PACKAGE, copy)
    monkeypatch.setattr(module, "PACKAGE", copy)
    module.library_code.cache_clear()
    yield copy
    module.library_code.cache_clear()


def digest(**parameters) -> str:
    module.library_code.cache_clear()
    return code_digest(Experiment.model_construct(**{**validate({}).model_dump(), **parameters}))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


def test_files_of_a_run_are_the_core_and_its_choices():
    chosen = {"training/models/net.py", "training/optimizers/sgd.py", "training/schedules/constant.py"}
    assert set(code_files(validate({}))) == CORE | chosen
    flipped = validate({"augment": ["crop", "horizontal_flip"]})
    more = {"training/augmentation/crop.py", "training/augmentation/horizontal_flip.py"}
    assert set(code_files(flipped)) == CORE | chosen | more


def test_every_file_of_the_training_layer_either_counts_or_is_named():
    """A new file that the loop or the network imports counts by itself; one that neither imports shows nothing."""
    everything = set(module.library_code())
    choices = {f"training/{folder}/{name}.py" for p, folder in CHOICES.items() for name in allowed_values(p)}
    some = {"training/cropped.py"}  # which some networks import
    apart = {"training/environment.py", "training/memory.py"}  # which neither imports
    assert everything == CORE | choices | some | NO_RESULT | apart
    assert set(ROOTS) <= CORE


@pytest.mark.parametrize("name", sorted(CORE))
def test_a_change_of_the_core_concerns_every_run(package, name):
    before = digest(), digest(model="lenet")
    (package / name).write_text((package / name).read_text() + "\nprint()\n")
    assert digest() != before[0]
    assert digest(model="lenet") != before[1]


def test_comments_docstrings_layout_plots_and_what_computes_nothing_do_not_count(package):
    before = digest()
    edit(
        package / "training/loop.py",
        '"""The training loop, its random generators, and its state for a checkpoint."""',
        '"""Another text."""\n\n# a remark\n',
    )
    for text in (
        "The state before the first epoch. Seeds torch's global generator, which dropout draws from.",
        "Everything that changes while a model is trained: what a checkpoint holds.",
    ):
        edit(package / "training/loop.py", text, "Another text.")
    edit(package / "training/loop.py", "def train_one_epoch(training:", "def train_one_epoch(\n    training:")
    for name in ("report/plots.py", "cli.py", "run.py", "records/record.py", *NO_RESULT):
        (package / name).write_text((package / name).read_text() + "\nprint()\n")
    assert digest() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "concerned", "others"),
    [
        ("models/lenet.py", "nn.Dropout(0.5)", "nn.Dropout(0.4)", {"model": "lenet"}, {}),
        ("models/efficientnet_b0.py", "(1, 1)", "(2, 2)", {"model": "efficientnet_b0"}, {"model": "lenet"}),
        ("optimizers/adam.py", "lr=e.lr", "lr=2 * e.lr", {"optimizer": "adam"}, {}),
        ("schedules/cosine.py", "T_max=steps", "T_max=steps + 1", {"schedule": "cosine"}, {"optimizer": "adam"}),
        ("augmentation/crop.py", "PADDING = 4", "PADDING = 6", {"augment": ["crop"]}, {"augment": ["rotation"]}),
    ],
)
def test_a_change_of_a_choice_concerns_only_the_runs_that_chose_it(package, file, old, new, concerned, others):
    before = digest(**concerned), digest(**others)
    edit(package / "training" / file, old, new)
    assert digest(**concerned) != before[0]
    assert digest(**others) == before[1]


def test_an_added_choice_concerns_no_other_run_and_counts_with_what_it_imports(package):
    before = [digest(model=name) for name in ("net", "lenet", "resnet18")]
    models = package / "training" / "models"
    (models / "blocks.py").write_text("WIDTH = 9\n")
    (models / "wide.py").write_text("from cifar_report.training.models.blocks import WIDTH\n\nbuild = WIDTH\n")
    assert [digest(model=name) for name in ("net", "lenet", "resnet18")] == before
    first = digest(model="wide")
    (models / "blocks.py").write_text("WIDTH = 10\n")
    assert digest(model="wide") != first
    assert digest(model="net") == before[0]


def test_the_digest_is_of_the_code_that_was_imported(package, tmp_path):
    """An edit while a process trains does not pass for what it trains with."""
    before = digest(model="lenet")
    script = (
        "import cifar_report.run, pathlib, sys\n"
        "from cifar_report.records.code_digest import code_digest\n"
        "from cifar_report.experiments.schema import validate\n"
        "path = pathlib.Path(cifar_report.run.__file__).with_name('training') / 'loop.py'\n"
        "path.write_text(path.read_text() + 'print()\\n')\n"
        "print(code_digest(validate({'model': 'lenet'})))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == before != digest(model="lenet")


def test_docstrings_alone_make_a_body(package):
    """A class that is only a docstring is read without it."""
    (package / "training/models/empty.py").write_text('class A:\n    """Only this."""\n')
    first = digest(model="empty")
    (package / "training/models/empty.py").write_text('class A:\n    """Another."""\n')
    assert digest(model="empty") == first
