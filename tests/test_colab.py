"""Colab: badges and first cells agree with the catalog; shared cells have one source; what Colab lacks is installed."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
import types
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from write_notebooks import SOURCE, form_field, shared_cells, write_notebooks

from cifar_report.execution import requirements
from cifar_report.experiments.catalog import load_catalog, packaged_folder, profiles, read_yaml
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, allowed_values, from_variables, validate
from cifar_report.records.key import COLAB, notebook_digest
from cifar_report.records.record import read_record

ROOT = Path(__file__).parent.parent
FAMILY_NOTEBOOKS = [family.notebook_path for family in load_catalog().families]
# Of what this package requires; as of Colab's image of August 2026.
COLAB_HAS = {
    *("filelock", "ipykernel", "jinja2", "joblib", "matplotlib", "nbconvert", "nbformat", "numpy", "packaging"),
    *("pandas", "pillow", "platformdirs", "pooch", "psutil", "pyarrow", "pydantic", "requests", "rich", "safetensors"),
    *("scikit-learn", "scipy", "torch", "torchvision", "tqdm", "typer"),
}
COLAB_LACKS = {"markdownify", "papermill", "ruamel.yaml", "weasyprint"}
NOTEBOOKS = [*FAMILY_NOTEBOOKS, packaged_folder("notebooks") / "colab_full_journal.ipynb"]


def colab_cell(repository: str, ref: str, notebook: str, name: str) -> str:
    """The source of one of the cells for Colab."""
    words = {"repository": repository, "ref": ref, "notebook": notebook}
    cells = shared_cells(ROOT / "notebooks" / SOURCE, **words)
    return next("".join(cell["source"]) for cell in cells if cell["id"] == name)


@pytest.fixture
def clone(tmp_path):
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_notebooks_are_what_the_command_writes(clone):
    assert write_notebooks(root=clone) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_badge_and_first_cell_agree_with_the_catalog(path):
    catalog = load_catalog()
    notebook = nbformat.read(path, as_version=4)
    first, second = notebook.cells[1:3]
    last = notebook.cells[-1]
    expected = [colab_cell(catalog.repository, catalog.ref, path.name, id) for id in ("badge", "colab", "download")]
    if not path.name[0].isdigit():
        del expected[2]
    found = [first, second, last][: len(expected)]
    assert [cell.source for cell in found] == expected
    assert [cell.metadata.tags for cell in found] == [[COLAB]] * len(expected)
    assert f"({catalog.colab_link(path.name)})" in first.source
    assert f"https://github.com/{catalog.repository}/archive/{catalog.ref}.zip" in second.source
    assert notebook.metadata.accelerator == "GPU"
    assert next(cell for cell in notebook.cells if cell.cell_type == "code") is second


def test_shared_cells_are_written_over_and_own_cells_stay_behind_the_cell_they_follow(clone):
    path = clone / "notebooks" / "03_optimizers.ipynb"
    notebook = nbformat.read(path, as_version=4)
    before = [cell.id for cell in notebook.cells]
    (data,) = [cell for cell in notebook.cells if cell.id == "data"]
    data.source = "dataset = 1"
    notebook.cells = [cell for cell in notebook.cells if cell.id != "record"]
    nbformat.write(notebook, path)
    assert write_notebooks(root=clone) == [path]
    assert path.read_text() == (ROOT / "notebooks" / path.name).read_text()

    source = clone / "notebooks" / SOURCE
    source.write_text(source.read_text().replace('# %% id="data"\n', '# %% id="new"\n1\n\n# %% id="data"\n'))
    assert len(write_notebooks(root=clone)) == len(FAMILY_NOTEBOOKS)
    after = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert after == [*before[: before.index("data")], "new", *before[before.index("data") :]]


def test_what_all_family_notebooks_have_in_common_is_shared():
    """A cell that stands alike in several notebooks stands in one source."""
    shared = {cell["id"] for cell in shared_cells(ROOT / "notebooks" / SOURCE)}
    found: dict[str, set[str]] = {}
    for path in FAMILY_NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        assert shared <= {cell.id for cell in cells}
        for cell in cells:
            if cell.id not in shared and cell.source != "## Results":
                found.setdefault(cell.source, set()).add(path.name)
    assert not [source for source, names in found.items() if len(names) > 1]


def test_badges_are_rewritten_together_and_change_no_key(clone):
    digests = [notebook_digest(path) for path in sorted((clone / "notebooks").glob("[0-9]*.ipynb"))]
    assert write_notebooks(root=clone) == []
    changed = write_notebooks("me/my-fork", "v1.0", root=clone)
    assert len(changed) == len(list((clone / "notebooks").glob("[0-9]*.ipynb"))) + 2  # colab_full_journal, journal.yaml
    assert 'repository: me/my-fork\nref: "v1.0"\n' in (clone / "params" / "journal.yaml").read_text()
    text = (clone / "notebooks" / "03_optimizers.ipynb").read_text()
    assert "github/me/my-fork/blob/v1.0/notebooks/03_optimizers.ipynb" in text
    assert "https://github.com/me/my-fork/archive/v1.0.zip" in text
    assert "cifar-report/cifar-report" not in text
    assert write_notebooks("me/my-fork", "v1.0", root=clone) == []
    assert [notebook_digest(path) for path in sorted((clone / "notebooks").glob("[0-9]*.ipynb"))] == digests


@pytest.mark.parametrize("ref", ["1.0", "010", "null", "release/2.0"])
def test_a_ref_that_looks_like_a_number_stays_a_text(clone, ref):
    write_notebooks("me/my-fork", ref, root=clone)
    assert read_yaml(clone / "params" / "journal.yaml")["ref"] == ref


@pytest.mark.parametrize(("repo", "ref"), [("me", "v1"), ("me/a b", "v1"), ("me/fork", "v 1"), ("me/fork", '"; x')])
def test_malformed_names_change_nothing(clone, repo, ref):
    before = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    with pytest.raises(RequestError, match="takes"):
        write_notebooks(repo, ref, root=clone)
    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == before


def test_first_cell_does_nothing_elsewhere(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    before = dict(os.environ)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("something was executed"))
    variables: dict = {}
    for name in ("colab", "download"):
        exec(colab_cell("a/b", "main", "x.ipynb", name), variables)
    from_variables(variables)  # every variable before the parameters are checked must be one of them
    assert dict(os.environ) == before


@pytest.mark.slow
def test_first_cell_installs_the_package_and_says_that_there_is_no_gpu(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    (packages,) = home.glob("lib/python*/site-packages")
    here = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (packages / "borrowed.pth").write_text(f"{here}\n")  # torch and the others, as Colab has them
    before = {path.name for path in packages.iterdir()}
    cell = colab_cell("a/b", "main", "x.ipynb", "colab")
    (tmp_path / "cell.py").write_text(f"{cell}\nimport cifar_report.run; print(cifar_report.__file__)\n")
    done = subprocess.run(
        [home / "bin" / "python", "cell.py"],
        cwd=tmp_path,
        env={**os.environ, "COLAB_RELEASE_TAG": "x", "CIFAR_REPORT_PACKAGE": str(wheel), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "This runtime has no GPU" in done.stdout
    assert str(packages / "cifar_report") in done.stdout
    added = {path.name for path in packages.iterdir()} - before
    assert {name.split("-")[0] for name in added} <= {"cifar_report", "__pycache__"}


def test_it_is_known_of_each_requirement_whether_colab_has_it():
    """A new one that Colab lacks has to be installed in the first cell, or must not be needed there."""
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {Requirement(line).name for line in required} == COLAB_HAS | COLAB_LACKS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["02_initialization", "colab_full_journal"])
def test_a_notebook_needs_no_more_than_colab_has_and_its_cells_install(name, tmp_path):
    """All its code cells, in their order, as Colab executes them; what Colab lacks is missing until it is installed."""
    notebook = nbformat.read(packaged_folder("notebooks") / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.id != "download"]
    cells = [(cell.source, "parameters" in cell.metadata.get("tags", [])) for cell in code]
    small = {"dataset": "digits", "train_limit": 64, "test_limit": 30, "epochs": 1}
    if name == "colab_full_journal":
        pairs = " ".join(f"{key}={value}" for key, value in small.items())
        small = {"only": "EXP000", "overrides": pairs}
    lacking = {name.partition(".")[0]: name for name in COLAB_LACKS}
    program = f"""
import subprocess, sys
from IPython.core.interactiveshell import InteractiveShell

sys.modules.update(dict.fromkeys({sorted(lacking)}))  # to import one of these fails
execute = subprocess.run

def run(command, **options):
    if "pip" not in command:
        return execute(command, **options)
    for module, package in {lacking}.items():
        if any(word.startswith(package) for word in command):
            sys.modules.pop(module, None)

subprocess.run = run
shell = InteractiveShell.instance()
for source, parameters in {cells}:
    shell.run_cell(source).raise_error()
    if parameters:
        shell.user_ns.update({small})
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "COLAB_RELEASE_TAG": "x", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if name == "colab_full_journal":
        assert "The report: " in done.stdout
        assert (tmp_path / "outputs" / "quick" / "report" / "report.html").is_file()
        assert read_record(tmp_path / "outputs" / "quick" / "runs" / "exp000" / "seed-0") is not None


@pytest.fixture
def colab(monkeypatch):
    """A runtime of Colab whose Drive can be mounted, with what was mounted and installed."""
    seen = types.SimpleNamespace(mounted=[], installed=[])
    drive = seen.drive = types.SimpleNamespace(mount=seen.mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(drive=drive))
    monkeypatch.setitem(sys.modules, "google", types.SimpleNamespace(colab=types.SimpleNamespace(drive=drive)))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    monkeypatch.setenv("CIFAR_REPORT_PACKAGE", "nothing")
    monkeypatch.setenv("CIFAR_REPORT_BACKUP", "")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: seen.installed.append(command))
    return seen


WITH_DRIVE = colab_cell("a/b", "main", "x.ipynb", "colab").replace('DRIVE_FOLDER = ""', 'DRIVE_FOLDER = "journal"')


def test_first_cell_mounts_the_drive_where_a_folder_is_named(colab, capsys):
    variables: dict = {}
    exec(WITH_DRIVE, variables)
    assert colab.mounted == ["/content/drive"]
    assert os.environ["CIFAR_REPORT_BACKUP"] == "/content/drive/MyDrive/journal"
    assert "--no-deps" in colab.installed[0]
    assert "cifar-report needs" not in capsys.readouterr().out
    from_variables(variables)


def test_a_drive_that_cannot_be_mounted_stops_nothing(colab, capsys):
    def fail(path):
        raise ValueError("mount failed")

    colab.drive.mount = fail
    exec(WITH_DRIVE, {})
    assert "The Drive could not be mounted (mount failed): the run goes on" in capsys.readouterr().out
    assert os.environ["CIFAR_REPORT_BACKUP"] == ""


def test_packages_of_other_versions_are_named_in_the_first_cell(colab, capsys, monkeypatch):
    needed = ["torch>=99", "numpy>=2", "not-installed>=1", 'ray>=99; extra == "ray"']
    monkeypatch.setattr(requirements, "requires", lambda name: needed)
    exec(colab_cell("a/b", "main", "x.ipynb", "colab"), {})
    out = capsys.readouterr().out
    assert f"torch {version('torch')} is installed, and cifar-report needs torch>=99.\n" in out
    assert out.count("is installed, and") == 1


def test_the_full_journal_asks_for_profiles_that_there_are():
    notebook = nbformat.read(packaged_folder("notebooks") / "colab_full_journal.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    (line,) = [line for line in cell.source.splitlines() if line.startswith("profile = ")]
    choices, _ = json.JSONDecoder().raw_decode(line.partition("@param ")[2])
    assert sorted(choices) == profiles()


def test_the_full_journal_shows_no_old_report_after_a_wrong_request(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(packaged_folder("notebooks") / "colab_full_journal.ipynb", as_version=4)
    names = {"profile": "quick", "only": "EXP903", "seeds": "0", "overrides": ""}
    for cell in ("run", "report"):
        exec(next(c.source for c in notebook.cells if c.id == cell), names)
    said = capsys.readouterr()
    assert "unknown experiment 'EXP903'" in said.err
    assert "no report: see the message above" in said.out


def test_last_cell_downloads_the_run_folder(monkeypatch, tmp_path):
    (tmp_path / "run" / "x").mkdir(parents=True)
    downloaded: list[str] = []
    files = types.SimpleNamespace(download=downloaded.append)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(files=files))
    monkeypatch.setitem(sys.modules, "google", types.SimpleNamespace(colab=types.SimpleNamespace(files=files)))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    record, run = types.SimpleNamespace(experiment="EXP003", seed=0), types.SimpleNamespace(folder=tmp_path / "run")
    cell = colab_cell("a/b", "main", "x.ipynb", "download").replace("/content", str(tmp_path))
    exec(cell, {"os": os, "record": record, "run": run})
    assert downloaded == [f"{tmp_path}/EXP003-seed-0.zip"]
    assert zipfile.is_zipfile(downloaded[0])


@pytest.mark.parametrize("name", Experiment.model_fields)
def test_form_fields_are_what_colab_reads(name):
    """`@param`, then choices as a list, then options: all JSON, the allowed words among the choices."""
    text = form_field(name).removeprefix("@param ")
    decoder = json.JSONDecoder()
    first, end = decoder.raw_decode(text)
    choices, options = (first, json.loads(text[end:])) if isinstance(first, list) else ([], first)
    assert options["help"] == Experiment.model_fields[name].description.replace("null", "None")  # as Python writes it
    assert options["type"] in ("string", "integer", "number", "boolean", "raw")
    default = Experiment.model_fields[name].default
    if options["type"] == "raw":
        for choice in choices:
            validate({name: ast.literal_eval(choice), **NEEDED.get(name, {})})
    elif choices:
        assert set(choices) == set(allowed_values(name))
    else:
        assert isinstance(default, {"string": str, "integer": int, "number": float, "boolean": bool}[options["type"]])


NEEDED: dict = {"weights": {"model": "resnet18"}}
