"""What opens a notebook in Colab: its badge, and the first cell, which fetches the package there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cifar_report.catalog import load_catalog, packaged_folder
from cifar_report.errors import RequestError
from cifar_report.record import atomic_file

TAG = "colab"  # cells with it belong to no run: neither to its key nor to its page in the report

# Only the package itself is installed: what else the notebooks need is there, and torch must not be touched. It holds
# no variables, since every plain variable before the parameters are checked must be one of them.
FIRST_CELL = """\
# Only in Colab: fetch the package that this notebook belongs to. Elsewhere this cell does nothing.
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
        print("This runtime has no GPU and will be slow: Runtime > Change runtime type > T4 GPU, then run all.")"""


def badge(repository: str, ref: str, notebook: str) -> str:
    """Markdown of the badge that opens a notebook in Colab."""
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})]({colab_link(repository, ref, notebook)})"


def colab_link(repository: str, ref: str, notebook: str) -> str:
    """Where Colab opens a notebook of the repository."""
    return f"https://colab.research.google.com/github/{repository}/blob/{ref}/notebooks/{notebook}"


def write_badges(repository: str | None = None, ref: str | None = None, *, root: Path | None = None) -> list[Path]:
    """Name the repository and its ref in `params/journal.yaml`, and bring badges and first cells into agreement.

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
    for path in sorted((folder / "notebooks").glob("0*.ipynb")):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        cells = [cell for cell in notebook["cells"] if TAG not in cell["metadata"].get("tags", [])]
        notebook["cells"] = [cells[0], *colab_cells(repository, ref, path.name), *cells[1:]]
        notebook["metadata"] |= {"accelerator": "GPU", "colab": {"name": path.name, "provenance": []}}
        changed += _replace(path, text, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    return changed


def colab_cells(repository: str, ref: str, notebook: str) -> list[dict[str, Any]]:
    """The two cells after a notebook's title: the badge and the code that does nothing elsewhere."""
    code = FIRST_CELL.replace("{repository}", repository).replace("{ref}", ref)
    return [
        {
            "cell_type": "markdown",
            "id": "badge",
            "metadata": {"tags": [TAG]},
            "source": [badge(repository, ref, notebook)],
        },
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "colab",
            "metadata": {"tags": [TAG], "cellView": "form"},
            "outputs": [],
            "source": code.splitlines(keepends=True),
        },
    ]


def _replace(path: Path, before: str, after: str) -> list[Path]:
    if before == after:
        return []
    with atomic_file(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
    return [path]
