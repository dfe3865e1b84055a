"""The library's own source as a run's key has it: what computes the run's result, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from cifar_report.experiment import Experiment

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
    ours = [node for node in imports if (node.module or "").startswith("cifar_report")]
    imported = {alias.name for node in ours for alias in node.names}
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
    """A module without the entries of its tables that are not chosen, and of the rest only what is needed.

    Needed is what other modules import (`imported`; of a module that none imports from, everything), what is not a
    definition, and what those need in turn.
    """
    kept: list[ast.stmt] = []
    for statement in tree.body:
        name, table = _table(statement)
        if table is not None and name in chosen:
            pairs = zip(table.keys, table.values, strict=True)
            mine = [(k, v) for k, v in pairs if isinstance(k, ast.Constant) and k.value in chosen[name]]
            kept.append(ast.Assign([ast.Name(name, ast.Store())], ast.Dict([k for k, _ in mine], [v for _, v in mine])))
        else:
            kept += _one_name_each(statement)
    defined = set().union(*(_defined(s) for s in kept if not isinstance(s, ast.Import | ast.ImportFrom)))
    roots = (defined & imported or defined) | _names(s for s in kept if not _defined(s))
    needed = _needed(roots, kept)
    return ast.Module([s for s in kept if not _defined(s) or _defined(s) & needed], [])


def _one_name_each(statement: ast.stmt) -> list[ast.stmt]:
    """A statement; of imports one a name, since each name may be needed or not."""
    if isinstance(statement, ast.Import):
        return [ast.Import([alias]) for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        return [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
    return [statement]


def _defined(statement: ast.stmt) -> set[str]:
    """The names that a statement gives a meaning, if that is all it does."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _needed(names: set[str], statements: list[ast.stmt]) -> set[str]:
    """The names, and those that their definitions need, and so on."""
    needs = {name: _names([s]) for s in statements for name in _defined(s)}
    found: set[str] = set()
    while names:
        found |= names
        names = set().union(*(needs.get(name, set()) for name in names)) - found
    return found


def _table(statement: ast.stmt) -> tuple[str, ast.Dict | None]:
    """Name and value of a statement that assigns a dictionary to a name."""
    target: ast.expr | None = statement.target if isinstance(statement, ast.AnnAssign) else None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    if isinstance(target, ast.Name) and isinstance(value, ast.Dict):
        return target.id, value
    return "", None


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    """Every name that the nodes mention, those behind a dot included."""
    parts = [part for node in nodes for part in ast.walk(node)]
    plain = {part.id for part in parts if isinstance(part, ast.Name)}
    return plain | {part.attr for part in parts if isinstance(part, ast.Attribute)}


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
