"""Write into the notebooks what they share: badges, shared cells, parameters as form fields. `make notebooks`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, allowed_values
from cifar_report.records.files import write_if_changed

SOURCE = "shared_cells.py"  # beside the notebooks
REST = "# The rest: data, budget, places"
AUGMENTATIONS = (("horizontal_flip",), ("horizontal_flip", "rotation"), ("horizontal_flip", "crop"))  # offered


def shared_cells(source: Path, **words: str) -> list[dict[str, Any]]:
    """The cells that a file in percent format holds, in order; `words` are filled in where it has them in braces."""
    text = source.read_text(encoding="utf-8")
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    return [_cell(*part.split("\n", 1)) for part in re.split(r"(?m)^# %%", text)[1:]]


def _cell(header: str, body: str) -> dict[str, Any]:
    metadata = {name: json.loads(value) for name, value in re.findall(r'(\w+)=(".*?"|\[.*?\]|\{.*?\})', header)}
    cell = {"cell_type": "markdown", "id": metadata.pop("id"), "metadata": metadata}
    source = body.strip("\n")
    if "[markdown]" in header:
        source = re.sub(r"(?m)^# ?", "", source)
    else:
        cell |= {"cell_type": "code", "execution_count": None, "outputs": []}
    return dict(sorted(cell.items())) | {"source": source.splitlines(keepends=True)}


def with_shared_cells(cells: list[dict[str, Any]], shared: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A notebook's cells with the shared ones as they should be; its own stay behind the shared cell they follow."""
    own: dict[str, list[dict[str, Any]]] = {"": [], **{cell["id"]: [] for cell in shared}}
    before = ""
    for cell in cells:
        if cell["id"] in own:
            before = cell["id"]
        else:
            own[before].append(cell)
    return own[""] + [each for cell in shared for each in (cell, *own[cell["id"]])]


def with_form_fields(source: str) -> str:
    """A parameters cell with a form field for each parameter, whatever comments it had.

    Below `REST` all parameters that do not come before it stand in the schema's order, new ones with their default.
    """
    above, mark, below = source.partition(REST)
    first, rest = _assignments(above), _assignments(below)
    if mark:
        names = [name for name in Experiment.model_fields if name not in first]
        defaults = Experiment.model_validate({}).model_dump()
        rest = {name: rest.get(name, repr(defaults[name]).replace("'", '"')) for name in names}
    parts = [[f"{name} = {value}  # {form_field(name)}" for name, value in part.items()] for part in (first, rest)]
    # A formatter would break what neither papermill nor Colab could then read.
    return "\n".join(["# fmt: off", *parts[0], *(["", REST, *parts[1]] if mark else [])])


def _assignments(source: str) -> dict[str, str]:
    """The parameters that a cell sets, and the code of their values."""
    lines = (line.partition("  # ")[0].partition(" = ") for line in source.splitlines())
    return {name: value.rstrip() for name, _, value in lines if name in Experiment.model_fields}


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
    options: dict[str, Any] = {"type": kind, "help": (field.description or "").replace("null", "None")}  # Python's
    if name == "augment":
        options["allow-input"] = True
    return f"@param {choices}{json.dumps(options, ensure_ascii=False)}"


def write_notebooks(repository: str | None = None, ref: str | None = None, *, root: Path | None = None) -> list[Path]:
    """Name the repository and its ref in `params/journal.yaml`; make the notebooks agree with it.

    Each family's notebook gets the cells of `notebooks/shared_cells.py` and its parameters' form fields. Names that are
    `None` stay as they are; malformed ones are refused. Returns the files that changed.
    """
    folder = root or Path(__file__).resolve().parents[1]
    journal = folder / "params" / "journal.yaml"
    repository, ref = repository or load_catalog().repository, ref or load_catalog().ref
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise RequestError(f"--repo takes owner/name, not '{repository}'")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", ref):
        raise RequestError(f"--ref takes a branch, tag or commit, not '{ref}'")
    text = journal.read_text(encoding="utf-8")
    new = re.sub(r"(?m)^repository: .*$", f"repository: {repository}", text)
    new = re.sub(r"(?m)^ref: .*$", f'ref: "{ref}"', new)  # 1.0 is a tag, not a number
    written = {journal: new}
    families = {family.notebook: family.name for family in load_catalog().families}
    for path in sorted({*(folder / "notebooks").glob("*.ipynb")} - {folder / "notebooks" / "report.ipynb"}):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        names = {"repository": repository, "ref": ref, "notebook": path.name, "family": families.get(path.name, "")}
        shared = shared_cells(path.with_name(SOURCE), **names)
        if path.name not in families:
            shared = [cell for cell in shared if cell["id"] in ("badge", "colab")]
        notebook["cells"] = with_shared_cells(notebook["cells"], shared)
        for cell in notebook["cells"]:
            if path.name in families and "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = with_form_fields("".join(cell["source"])).splitlines(keepends=True)
        notebook["metadata"] |= {"accelerator": "GPU", "colab": {"name": path.name, "provenance": []}}
        written[path] = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    return [path for path, text in written.items() if write_if_changed(path, text)]


def main(
    repo: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="on GitHub; default: unchanged")] = None,
    ref: Annotated[str | None, typer.Option(help="branch, tag or commit; default: unchanged")] = None,
) -> None:
    """Write the cells that notebooks share, with badges and form fields. Name the repository that Colab uses."""
    try:
        print("\n".join(map(str, write_notebooks(repo, ref))) or "nothing to change")
    except RequestError as error:
        print(f"notebooks: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
