"""Where notebooks open in Colab, and the command that writes their badges, shared cells and form fields."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cifar_report.experiments.catalog import load_catalog, packaged_folder
from cifar_report.experiments.errors import RequestError
from cifar_report.notebook_cells import SOURCE, shared_cells, with_form_fields, with_shared_cells
from cifar_report.records.files import atomic_file

TAG = "colab"  # cells with it belong to no run: neither to its key nor to its page in the report


def colab_link(repository: str, ref: str, notebook: str) -> str:
    """Where Colab opens a notebook of the repository."""
    return f"https://colab.research.google.com/github/{repository}/blob/{ref}/notebooks/{notebook}"


def write_notebooks(repository: str | None = None, ref: str | None = None, *, root: Path | None = None) -> list[Path]:
    """Name the repository and its ref in `params/journal.yaml`; make the notebooks agree with it.

    Each family's notebook gets the cells of `notebooks/shared_cells.py` and its parameters' form fields.

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
        raise RequestError("notebooks are rewritten in a clone of the repository only, and this package is not one")
    repository, ref = repository or load_catalog().repository, ref or load_catalog().ref
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise RequestError(f"--repo takes owner/name, not '{repository}'")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", ref):
        raise RequestError(f"--ref takes a branch, tag or commit, not '{ref}'")
    text = journal.read_text(encoding="utf-8")
    new = re.sub(r"(?m)^repository: .*$", f"repository: {repository}", text)
    changed = _replace(journal, text, re.sub(r"(?m)^ref: .*$", f"ref: {ref}", new))
    families = {family.notebook: family.name for family in load_catalog().families}
    for path in sorted({*(folder / "notebooks").glob("*.ipynb")} - {folder / "notebooks" / "report.ipynb"}):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        names = {"repository": repository, "ref": ref, "notebook": path.name, "family": families.get(path.name, "")}
        shared = shared_cells(path.with_name(SOURCE), **names)
        if path.name not in families:
            shared = [cell for cell in shared if cell["id"] in ("badge", "colab")]
        notebook["cells"] = with_shared_cells(notebook["cells"], shared)
        for cell in notebook["cells"]:
            if path.name in families and "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = with_form_fields("".join(cell["source"])).splitlines(keepends=True)
        notebook["metadata"] |= {"accelerator": "GPU", "colab": {"name": path.name, "provenance": []}}
        changed += _replace(path, text, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    return changed


def _replace(path: Path, before: str, after: str) -> list[Path]:
    if before == after:
        return []
    with atomic_file(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
    return [path]
