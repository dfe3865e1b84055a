"""What opens a notebook in Colab: its badge, and the first cell, which fetches the package there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cifar_report.experiments.catalog import load_catalog, packaged_folder
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, allowed_values
from cifar_report.records.files import atomic_file

TAG = "colab"  # cells with it belong to no run: neither to its key nor to its page in the report

# Only the package itself is installed: what else the notebooks need is there, and torch must not be touched. It leaves
# no variable behind, since every plain variable before the parameters are checked must be one of them.
FIRST_CELL = """\
# Only in Colab: fetch the package that this notebook belongs to. Elsewhere this cell does nothing.
DRIVE_FOLDER = ""  # @param {"type": "string", "help": "folder of your Drive that keeps the runs"}
import importlib
import os
import subprocess
import sys

if "COLAB_RELEASE_TAG" in os.environ:
    os.environ.setdefault("CIFAR_REPORT_PACKAGE", "https://github.com/{repository}/archive/{ref}.zip")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", os.environ["CIFAR_REPORT_PACKAGE"]], check=True
    )
    importlib.invalidate_caches()
    import torch

    if not torch.cuda.is_available():
        print("This runtime has no GPU and will be slow: Runtime > Change runtime type > T4 GPU, then run all.")
    if DRIVE_FOLDER:
        from google.colab import drive

        drive.mount("/content/drive")
        os.environ["CIFAR_REPORT_BACKUP"] = f"/content/drive/MyDrive/{DRIVE_FOLDER}"
del DRIVE_FOLDER"""

LAST_CELL = """\
# Only in Colab: download what the run left, weights included.
if "COLAB_RELEASE_TAG" in os.environ:
    import shutil

    from google.colab import files

    files.download(shutil.make_archive(f"/content/{record.experiment}-seed-{record.seed}", "zip", run.folder))"""


def badge(repository: str, ref: str, notebook: str) -> str:
    """Markdown of the badge that opens a notebook in Colab."""
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})]({colab_link(repository, ref, notebook)})"


def colab_link(repository: str, ref: str, notebook: str) -> str:
    """Where Colab opens a notebook of the repository."""
    return f"https://colab.research.google.com/github/{repository}/blob/{ref}/notebooks/{notebook}"


def write_badges(repository: str | None = None, ref: str | None = None, *, root: Path | None = None) -> list[Path]:
    """Name the repository and its ref in `params/journal.yaml`; make badges, first cells and form fields agree with it.

    Args:
        repository: `owner/name` on GitHub; `None`: as it is.
        ref: branch, tag or commit; `None`: as it is.
        root: the clone; default: the one this package runs from.

    Returns:
        the files that changed.

    Raises:
        RequestError: a name is malformed, or the package does not run from a clone.
    """
    folder = root or packaged_folder("params").parent
    journal = folder / "params" / "journal.yaml"
    if not (folder / "pyproject.toml").is_file():
        raise RequestError("badges are rewritten in a clone of the repository, and this package does not run from one")
    repository, ref = repository or load_catalog().repository, ref or load_catalog().ref
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise RequestError(f"--repo takes owner/name, not '{repository}'")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", ref):
        raise RequestError(f"--ref takes a branch, tag or commit, not '{ref}'")
    text = journal.read_text(encoding="utf-8")
    new = re.sub(r"(?m)^repository: .*$", f"repository: {repository}", text)
    changed = _replace(journal, text, re.sub(r"(?m)^ref: .*$", f"ref: {ref}", new))
    families = {family.notebook for family in load_catalog().families}
    for path in sorted({*(folder / "notebooks").glob("*.ipynb")} - {folder / "notebooks" / "report.ipynb"}):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        cells = [cell for cell in notebook["cells"] if TAG not in cell["metadata"].get("tags", [])]
        for cell in cells:
            if path.name in families and "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = with_form_fields("".join(cell["source"])).splitlines(keepends=True)
        opening, closing = colab_cells(repository, ref, path.name)
        notebook["cells"] = [cells[0], *opening, *cells[1:], *(closing if path.name in families else [])]
        notebook["metadata"] |= {"accelerator": "GPU", "colab": {"name": path.name, "provenance": []}}
        changed += _replace(path, text, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    return changed


def colab_cells(repository: str, ref: str, notebook: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What follows a notebook's title, the badge and the first code cell, and the cell at a family notebook's end."""
    first = FIRST_CELL.replace("{repository}", repository).replace("{ref}", ref)
    markdown = {
        "cell_type": "markdown",
        "id": "badge",
        "metadata": {"tags": [TAG]},
        "source": [badge(repository, ref, notebook)],
    }
    return [markdown, _code_cell("colab", first)], [_code_cell("download", LAST_CELL)]


def _code_cell(identifier: str, source: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": identifier,
        "metadata": {"tags": [TAG], "cellView": "form", "jupyter": {"source_hidden": True}},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def with_form_fields(source: str) -> str:
    """A parameters cell whose lines carry the form field of their parameter, whatever comments they had."""
    lines = ["# fmt: off"]  # a formatter would break what neither papermill nor Colab could then read
    for line in source.splitlines():
        if line == lines[0]:
            continue
        assignment = line.partition("  # ")[0].rstrip()
        name = assignment.partition(" = ")[0]
        lines.append(f"{assignment}  # {form_field(name)}" if name in Experiment.model_fields else line)
    return "\n".join(lines)


def form_field(name: str) -> str:
    """What makes a parameter a field of a Colab form, its description included, which papermill shows as help."""
    field = Experiment.model_fields[name]
    words, default = allowed_values(name), field.default
    choices, kind = "", "raw"  # raw: an expression, such as None
    if name == "augment":
        choices = json.dumps(["[]", *(json.dumps(list(names)) for names in AUGMENTATIONS)]) + " "
    elif "null" in words:
        choices = json.dumps(["None", *(json.dumps(word) for word in words if word != "null")]) + " "
    elif words:
        choices, kind = json.dumps(words) + " ", "string"
    elif isinstance(default, bool):
        kind = "boolean"
    elif isinstance(default, int | float | str):
        kind = {int: "integer", float: "number", str: "string"}[type(default)]
    options: dict[str, Any] = {"type": kind, "help": field.description}
    if name == "augment":
        options["allow-input"] = True
    return f"@param {choices}{json.dumps(options, ensure_ascii=False)}"


AUGMENTATIONS = (("horizontal_flip",), ("horizontal_flip", "rotation"), ("horizontal_flip", "crop"))  # offered


def _replace(path: Path, before: str, after: str) -> list[Path]:
    if before == after:
        return []
    with atomic_file(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
    return [path]
