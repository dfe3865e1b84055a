"""Execute one cell of a notebook by itself, for `search.py` and `robustness.py`: what they find, the notebook shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def execute_cell(notebook: str, name: str, line: str, **variables: Any) -> dict[str, Any]:
    """Execute a notebook's cell, with `line` in place of its line that sets the same; returns its variables."""
    path, left = NOTEBOOKS / notebook, line.partition(" = ")[0]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (source,) = ("".join(cell["source"]) for cell in cells if cell["id"] == name)
    source, replaced = re.subn(rf"(?m)^{left} = .*$", line, source)
    assert replaced == 1, f"the notebook's cell does not set {left} in one line"
    variables["run"] = SimpleNamespace(device=torch.device("cpu"))
    exec(compile(source, str(path), "exec"), variables)  # noqa: S102 - the notebook's own code
    return variables
