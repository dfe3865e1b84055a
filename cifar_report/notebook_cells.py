"""What family notebooks have in common: the cells of `notebooks/shared_cells.py`, and parameters as form fields."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cifar_report.experiments.schema import Experiment, allowed_values

SOURCE = "shared_cells.py"  # beside the notebooks
LESSON = "lesson"  # cells with it teach: they compute no result, and runs of the pipeline leave them out
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
