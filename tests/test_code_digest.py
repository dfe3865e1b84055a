"""Which code of the library concerns a run."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_report.experiments.schema import Experiment, allowed_values, validate
from cifar_report.records import code_digest as source
from cifar_report.records.code_digest import RESULT_MODULES, TABLES, library_digest

PACKAGE = Path(source.__file__).parent


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the library, to be edited: `digest` reads it anew."""
    copy = tmp_path / "cifar_report"
    shutil.copytree(PACKAGE, copy)
    monkeypatch.setattr(source, "__file__", str(copy / "source.py"))
    yield copy
    forget()


def forget() -> None:
    source._syntax_trees.cache_clear()
    source._digest_of_choices.cache_clear()


def digest(**parameters) -> str:
    forget()
    return library_digest(validate(parameters))


@pytest.mark.parametrize("name", RESULT_MODULES)
def test_library_digest_changes_with_code_that_decides_the_result(package, name):
    before = digest()
    (package / name).write_text((package / name).read_text() + "\nprint()\n")
    assert digest() != before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (
            "data/splits.py",
            "def _rank_in_class(labels: np.ndarray)",
            "def _rank_in_class(labels: np.ndarray, x: int = 1)",
        ),
        ("training.py", "def shuffled_batches(count: int", "def shuffled_batches(count: float"),
        ("evaluation.py", "return self.logits.argmax(1)", "return self.logits.argmax(-1)"),
        ("run.py", "def _phase(self, name: str)", "def _phase(self, name: object)"),
    ],
)
def test_library_digest_follows_what_is_needed_through_the_modules(package, module, old, new):
    before = digest()
    text = (package / module).read_text()
    assert text.count(old) == 1
    (package / module).write_text(text.replace(old, new))
    assert digest() != before


def test_library_digest_ignores_comments_docstrings_layout_and_plots(package):
    before = digest()
    training = package / "training.py"
    text = training.read_text()
    assert '"""Training: one plain loop."""' in text
    training.write_text(text.replace('"""Training: one plain loop."""', '"""Another text."""') + "\n\n# a remark\n")
    for name in ("report/figures.py", "report/templates/cifar_report/style.css", "cli.py", "checkpoint.py"):
        (package / name).write_text((package / name).read_text() + "\n")
    assert digest() == before


LENET = {"model": "lenet"}
ADAM = {"optimizer": "adam", "nesterov": False, "momentum": 0}


@pytest.mark.parametrize(
    ("module", "old", "new", "concerned", "others"),
    [
        ("models.py", "self.fc1 = nn.Linear(64 * 4 * 4, 500)", "self.fc1 = nn.Linear(1024, 500)", LENET, {}),
        ("models.py", "    model.features[0][0].stride = (1, 1)", "    pass", {"model": "efficientnet_b0"}, LENET),
        ("models.py", '"lenet": LeNet,', '"lenet": LeNet,\n    "wide": Net,', {"model": "wide"}, LENET),
        ("optimization.py", "Adam(weights, lr=e.lr,", "Adam(weights, lr=2 * e.lr,", ADAM, {}),
        ("optimization.py", "T_max=steps)", "T_max=steps + 1)", {"schedule": "cosine"}, ADAM),
        ("augmentation.py", "(0.2470, 0.2435, 0.2616)", "(0.2, 0.2, 0.2)", {"normalize": "cifar10"}, {}),
        (
            "augmentation.py",
            "images.flip(3)",
            "images.flip(2)",
            {"augment": ["crop", "horizontal_flip"]},
            {"augment": ["crop"]},
        ),
        ("initialization.py", "val=CONSTANT", "val=1.0", {"init": "constant"}, {"init": "xavier_normal"}),
        ("augmentation.py", "CROP_PADDING = 4", "CROP_PADDING = 6", {"augment": ["crop"]}, {"augment": ["rotation"]}),
        ("augmentation.py", "ROTATION_DEGREES = 10.0", "ROTATION_DEGREES = 15.0", {"augment": ["rotation"]}, {}),
        ("optimization.py", "import SGD, Adam,", "import SGD, Adagrad, Adam,", None, ADAM),
    ],
)
def test_a_change_concerns_only_the_runs_that_use_what_changed(package, module, old, new, concerned, others):
    def both():
        forget()
        made = [concerned or {}, others]
        return [library_digest(Experiment.model_construct(**{**plain, **given})) for given in made]

    plain = validate({}).model_dump()
    before = both()
    text = (package / module).read_text()
    assert text.count(old) == 1
    (package / module).write_text(text.replace(old, new))
    after = both()
    assert after[1] == before[1]
    assert concerned in (None, {"model": "wide"}) or after[0] != before[0]


def test_a_model_added_with_its_imports_helpers_and_constants_concerns_no_other(package):
    def wide():
        forget()
        return library_digest(Experiment.model_construct(**{**validate({}).model_dump(), "model": "wide"}))

    before = [digest(model=name) for name in ("net", "lenet", "resnet18")]
    path = package / "models.py"
    text = path.read_text().replace('    "lenet": LeNet,', '    "lenet": LeNet,\n    "wide": Wide,')
    text = text.replace("import torchvision\n", "import torchvision\nimport math\n", 1)
    added = "WIDTH = math.ceil(9.5)\n\n\nclass Block(nn.Module):\n    pass\n\n\n"
    added += "class Wide(nn.Module):\n    parts = [Block] * WIDTH\n"
    path.write_text(text.replace("def efficientnet_b0", f"{added}\n\ndef efficientnet_b0"))
    assert [digest(model=name) for name in ("net", "lenet", "resnet18")] == before
    first = wide()
    path.write_text(path.read_text().replace("ceil(9.5)", "floor(9.5)"))
    assert wide() != first
    assert digest(model="net") == before[0]


def test_digest_is_the_same_for_every_version_of_python():
    """Every name has its context: without one, 3.13 would make it a load and 3.12 none."""
    tree = ast.parse("A: dict = {'x': f, 'y': g}\nB = 1\ndef f(): pass\ndef g(): return B\n")
    left = source._only_chosen(tree, {"A": frozenset({"x"})}, {"A"})
    assert [ast.unparse(ast.fix_missing_locations(s)) for s in left.body] == ["A = {'x': f}", "def f():\n    pass"]
    assert all(hasattr(node, "ctx") for node in ast.walk(left) if isinstance(node, ast.Name))


def test_what_chosen_and_other_entries_share_counts_for_both(package):
    path = package / "models.py"
    text = path.read_text()
    (old,) = [line for line in text.splitlines() if line.startswith("CLASSES = 10")]
    before = [digest(model=name) for name in ("net", "lenet")]
    path.write_text(text.replace(old, "CLASSES = 11"))
    assert all(now != was for now, was in zip([digest(model=n) for n in ("net", "lenet")], before, strict=True))


def test_every_table_is_there_and_named_after_its_choices():
    found = {}
    for name in RESULT_MODULES:
        for statement in ast.parse((PACKAGE / name).read_text()).body:
            table, value = source._table(statement)
            if value is not None and all(isinstance(k, ast.Constant) and isinstance(k.value, str) for k in value.keys):
                found[table] = {k.value for k in value.keys}
    assert set(found) == set(TABLES)
    for table, parameter in TABLES.items():
        assert found[table] <= set(allowed_values(parameter)), table


def test_the_digest_is_of_the_code_that_was_imported(tmp_path):
    """An edit while a process trains does not pass for what it trains with."""
    copy = tmp_path / "cifar_report"
    shutil.copytree(PACKAGE, copy)
    script = (
        "import cifar_report.run, pathlib, sys\n"
        "from cifar_report.records.code_digest import library_digest\n"
        "from cifar_report.experiments.schema import validate\n"
        "path = pathlib.Path(cifar_report.run.__file__).with_name('training.py')\n"
        "path.write_text(path.read_text() + 'print()\\n' * int(sys.argv[1]))\n"
        "print(library_digest(validate({'model': 'lenet'})))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script, times], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for times in ("0", "1", "0")
    ]
    assert told[0] == told[1] != told[2]


def test_every_module_that_computes_is_among_the_result_modules():
    """What run.py imports of the library, directly or not, either computes results or is named here."""
    plain = {
        "catalog.py",
        "errors.py",
        "experiment.py",
        "files.py",
        "record.py",
        "predictions.py",
        "key.py",
        "source.py",
        "environment.py",
    }
    finding = {  # what there is to work on, whose content is in the key, and where; and keeping it
        "backup.py",
        "checkpoint.py",
        "data/sources.py",
        "lock.py",
        "memory.py",
        "weights.py",
        "data/cache.py",
        "data/download.py",
        "data/__init__.py",
        "__init__.py",
    }
    seen, todo = set(), ["run.py"]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cifar_report."):
                path = (node.module or "").removeprefix("cifar_report.").replace(".", "/")
                candidates = [f"{path}.py", *(f"{path}/{alias.name}.py" for alias in node.names)]
                todo += [c for c in candidates if (PACKAGE / c).is_file()]
    assert seen - plain - finding == set(RESULT_MODULES)
