"""The code that decides a run's result, as its key has it.

It is the files of `data/` and `training/` that `training/build.py` and `training/loop.py` import, directly or not, and
of the folders of choices the files that the run's parameters choose, with what those import. Whole files count, without
comments, docstrings and layout. `NO_RESULT` names what does not count: it finds, keeps or describes.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from cifar_report.experiments.schema import CHOICES, Experiment

PACKAGE = Path(__file__).resolve().parent.parent
ROOTS = ("training/build.py", "training/loop.py")
NO_RESULT = {
    # The images' digest is in the key.
    *(f"data/{name}.py" for name in ("cache", "download", "pictures", "sources", "split_check", "__init__")),
    *("training/weights.py", "training/checkpoint.py", "training/choices.py", "training/cost.py"),
    *("training/__init__.py", *(f"training/{folder}/__init__.py" for folder in CHOICES.values())),
}


def code_digest(parameters: Experiment) -> str:
    """SHA-256 of the code that decides the result of a run with these parameters; alike on every version of Python."""
    code = "".join(f"{name}\n{library_code()[name][0]}\n" for name in code_files(parameters))
    return hashlib.sha256(code.encode()).hexdigest()


def code_files(parameters: Experiment) -> list[str]:
    """Names of the files that decide the result of a run with these parameters, below the package's folder."""
    values = {folder: getattr(parameters, parameter) for parameter, folder in CHOICES.items()}
    chosen = {f: [v] if isinstance(v, str) else v for f, v in values.items()}
    todo = [*ROOTS, *(f"training/{folder}/{name}.py" for folder, names in chosen.items() for name in names)]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in found and name in library_code() and name not in NO_RESULT:
            found.add(name)
            todo += library_code()[name][1]
    return sorted(found)


@cache
def library_code() -> dict[str, tuple[str, list[str]]]:
    """Of each file of `data/` and `training/` its code in canonical form, and the files that it imports.

    Read once: by whoever trains when it imports them, so that an edit meanwhile does not pass for what it trains with.
    """
    files = sorted(path for folder in ("data", "training") for path in (PACKAGE / folder).rglob("*.py"))
    trees = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}
    return {name: (json.dumps(_canonical(tree)), _imported(tree)) for name, tree in trees.items()}


def _imported(tree: ast.Module) -> list[str]:
    """The files that the imports of a file may mean, below the package's folder."""
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    ours = [module.removeprefix("cifar_report.") for module in modules if module.startswith("cifar_report.")]
    return [f"{module.replace('.', '/')}.py" for module in ours]


def _canonical(node: Any) -> Any:
    """A syntax tree as lists, without docstrings; empty fields, which come and go with Python's versions, left out."""
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            fields["body"] = node.body[1:]
        return [type(node).__name__, *([name, _canonical(value)] for name, value in fields.items())]
    return [_canonical(part) for part in node] if isinstance(node, list) else repr(node)
