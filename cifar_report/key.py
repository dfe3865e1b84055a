"""The cache key of a run: what its result depends on, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from cifar_report.experiment import Experiment, shown
from cifar_report.record import KeyFacts, RunRecord

# The modules that compute a result; what plans, finds data, saves, plots and reports does not change one.
RESULT_MODULES = (
    "augmentation.py",
    "data/dataset.py",
    "data/splits.py",
    "evaluation.py",
    "features.py",
    "initialization.py",
    "models.py",
    "optimization.py",
    "run.py",
    "training.py",
)
# Tables of those modules, by the parameter that chooses from them: only what a run chooses concerns it, so that
# another model may be changed or added and none of its results is made again.
TABLES = {
    "AUGMENTATIONS": "augment",
    "HEADS": "model",
    "INITIALIZATIONS": "init",
    "LAST_TWO_LAYERS": "model",
    "MODELS": "model",
    "OPTIMIZERS": "optimizer",
    "SCHEDULES": "schedule",
    "STAGES": "model",
    "STATISTICS": "normalize",
}


def key_facts(parameters: Experiment, notebook: Path, data_sha256: str, weights_sha256: str | None) -> KeyFacts:
    """What a run depends on beside its parameters, as it stands now."""
    return KeyFacts(
        notebook=notebook_digest(notebook),
        library=library_digest(parameters),
        data=data_sha256,
        weights=weights_sha256,
    )


def run_key(parameters: Experiment, facts: KeyFacts) -> str:
    """Hash of the resolved parameters, the notebook's code, the library's source, the data and the weights."""
    content = {"parameters": _effective(parameters), **facts.model_dump()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _effective(parameters: Experiment) -> dict[str, Any]:
    """The parameters that have an effect beside the others."""
    idle = () if parameters.validation == "holdout" else ("holdout_size",)
    return {name: value for name, value in parameters.result_parameters().items() if name not in idle}


def stale_because(record: RunRecord, parameters: Experiment, facts: KeyFacts) -> list[str]:
    """Why a complete run's key is no longer the one it would have now, in words."""
    now = _effective(parameters)
    reasons = [
        f"{name} is {shown(now.get(name))}, was {shown(record.parameters.get(name))}"
        for name in {**now, **record.parameters}
        if name in now or name not in parameters.result_parameters()
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


def library_digest(parameters: Experiment) -> str:
    """Digest of the result modules' code as far as it concerns a run with these parameters.

    Comments, docstrings and layout do not count, nor what other choices of `TABLES` are made of.
    """
    chosen = {name: getattr(parameters, parameter) for name, parameter in TABLES.items()}
    words = {name: frozenset([value] if isinstance(value, str) else value) for name, value in chosen.items()}
    return _digest_of_choices(tuple(sorted(words.items())))


@cache
def _digest_of_choices(chosen: tuple[tuple[str, frozenset[str]], ...]) -> str:
    digest = hashlib.sha256()
    trees = _syntax_trees()
    imports = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {alias.name for node in imports for alias in node.names}
    for name, tree in trees.items():
        concerned = _canonical(_only_chosen(tree, dict(chosen), imported))
        digest.update(f"{name}\n{json.dumps(concerned)}\n".encode())
    return digest.hexdigest()


@cache
def _syntax_trees() -> dict[str, ast.Module]:
    """The result modules as they are on disk when this is first called: by whoever trains, when it imports them."""
    package = Path(__file__).resolve().parent
    return {
        name: _without_docstrings(ast.parse((package / name).read_text(encoding="utf-8"))) for name in RESULT_MODULES
    }


def _only_chosen(tree: ast.Module, chosen: dict[str, frozenset[str]], imported: set[str]) -> ast.Module:
    """A module without the entries of its tables that are not chosen, and without the definitions only those name.

    `imported`: names that other modules import, which stay.
    """
    kept: list[ast.stmt] = []
    dropped: set[str] = set()
    for statement in tree.body:
        name, table = _table(statement)
        if table is not None and name in chosen:
            pairs = list(zip(table.keys, table.values, strict=True))
            mine = [(k, v) for k, v in pairs if isinstance(k, ast.Constant) and k.value in chosen[name]]
            dropped |= _names([value for pair in pairs if pair not in mine for value in pair[1:]])
            kept.append(ast.Assign([ast.Name(name)], ast.Dict([k for k, _ in mine], [v for _, v in mine])))
        else:
            kept.append(statement)
    idle = [s for s in kept if isinstance(s, ast.FunctionDef | ast.ClassDef) and s.name in dropped]
    while idle:
        needed = _names(s for s in kept if s not in idle) | imported
        if not any(s.name in needed for s in idle):
            break
        idle = [s for s in idle if s.name not in needed]
    return ast.Module([s for s in kept if s not in idle], [])


def _table(statement: ast.stmt) -> tuple[str, ast.Dict | None]:
    """Name and value of a statement that assigns a dictionary to a name."""
    target: ast.expr | None = statement.target if isinstance(statement, ast.AnnAssign) else None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    if isinstance(target, ast.Name) and isinstance(value, ast.Dict):
        return target.id, value
    return "", None


def _names(nodes: Iterable[ast.AST | None]) -> set[str]:
    """Every name that the nodes mention."""
    return {part.id for node in nodes if node for part in ast.walk(node) if isinstance(part, ast.Name)}


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
