"""The cache key of a run: what its result depends on, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from cifar_report.experiment import Experiment, shown
from cifar_report.record import KeyFacts, RunRecord

# The modules that compute a result; what plans, records, plots and reports does not change one.
RESULT_MODULES = (
    "augmentation.py",
    "checkpoint.py",
    "data/dataset.py",
    "data/sources.py",
    "data/splits.py",
    "evaluation.py",
    "features.py",
    "initialization.py",
    "models.py",
    "optimization.py",
    "run.py",
    "training.py",
)


def key_facts(notebook: Path, data_sha256: str, weights_sha256: str | None) -> KeyFacts:
    """What a run depends on beside its parameters, as it stands now."""
    return KeyFacts(
        notebook=notebook_digest(notebook), library=library_digest(), data=data_sha256, weights=weights_sha256
    )


def run_key(parameters: Experiment, facts: KeyFacts) -> str:
    """Hash of the resolved parameters, the notebook's code, the library's source, the data and the weights."""
    content = {"parameters": parameters.result_parameters(), **facts.model_dump()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stale_because(record: RunRecord, parameters: Experiment, facts: KeyFacts) -> list[str]:
    """Why a complete run's key is no longer the one it would have now, in words."""
    now = parameters.result_parameters()
    reasons = [
        f"{name} is {shown(now.get(name))}, was {shown(record.parameters.get(name))}"
        for name in {**now, **record.parameters}
        if now.get(name) != record.parameters.get(name)
    ]
    words = {
        "notebook": "the notebook's code",
        "library": "the library's code",
        "data": "the data",
        "weights": "the weights",
    }
    before = record.key_facts
    for name, word in words.items():
        if before is None or getattr(before, name) != getattr(facts, name):
            reasons.append(f"{word} changed")
    return reasons


def notebook_digest(notebook: Path) -> str:
    """Digest of a notebook's code cells, in order.

    The parameters cell aside, whose values are in the key, and the cell that fetches the package in Colab.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and not {"parameters", "colab"} & set(cell["metadata"].get("tags", []))
    ]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


@cache
def library_digest() -> str:
    """Digest of the result modules' syntax trees without docstrings: comments and layout do not count."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for name in RESULT_MODULES:
        tree = ast.parse((package / name).read_text(encoding="utf-8"))
        digest.update(f"{name}\n{json.dumps(_canonical(_without_docstrings(tree)))}\n".encode())
    return digest.hexdigest()


def _canonical(node: Any) -> Any:
    """A syntax tree as lists, the same for every version of Python: empty fields, which come and go, are left out."""
    if isinstance(node, ast.AST):
        fields = [
            [name, _canonical(value)] for name, value in ast.iter_fields(node) if value is not None and value != []
        ]
        return [type(node).__name__, *fields]
    return [_canonical(part) for part in node] if isinstance(node, list) else repr(node)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            constant = first.value if isinstance(first, ast.Expr) else None
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                node.body = node.body[1:]
    return tree
