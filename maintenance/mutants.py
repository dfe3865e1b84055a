"""Change the code that computes results, keys and statistics in one small way after another: do the tests notice?

`make mutants COUNT=50 SEED=1`. Each mutant is tried in a copy of the clone, with the tests of its module. Survivors are
printed: each shows a test that is missing, or a change that changes nothing.
"""

from __future__ import annotations

import ast
import copy
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What is changed, and the tests that are to notice.
TESTS = {
    "journal/statistics.py": "statistics spread",
    "journal/measures.py": "journal statements",
    "journal/comparison.py": "journal spread",
    "journal/work.py": "journal key",
    "journal/statements.py": "statements",
    "journal/observations.py": "journal",
    "journal/diff.py": "diff",
    "execution/plan.py": "plan execution",
    "execution/verify.py": "plan",
    "execution/resources.py": "execution",
    "records/backup.py": "backup",
    "report/fragments.py": "report",
    "records/key.py": "key plan",
    "records/predictions.py": "record journal statistics",
    "data/splits.py": "data",
    "training/inputs.py": "augmentation training",
    "training/mixing.py": "augmentation",
    "training/averaging.py": "averaging",
    "training/whitening.py": "whitening",
    "training/initialization.py": "models",
    "training/evaluation.py": "evaluation",
    "training/frozen.py": "frozen",
    "training/cost.py": "models frozen bench",
    "training/schedules/triangular.py": "optimization",
    "training/augmentation/crop.py": "augmentation",
    "training/augmentation/cutout.py": "augmentation",
    "training/augmentation/rotation.py": "augmentation",
}
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Every mutant of a module: the line, what is changed there, and the module's text."""
    tree = ast.parse(source)
    idle = [node for node in ast.walk(tree) if _computes_nothing(node)]
    idle += [decorator for node in ast.walk(tree) for decorator in getattr(node, "decorator_list", [])]
    left_out = {id(part) for node in idle for part in ast.walk(node)}
    for at, node in enumerate(ast.walk(tree)):
        for change in _changes(node) if id(node) not in left_out else ():
            mutated = copy.deepcopy(tree)
            twin = next(other for index, other in enumerate(ast.walk(mutated)) if index == at)
            before = _shown(twin)
            change(twin)
            yield getattr(node, "lineno", 0), f"{before}  ->  {_shown(twin)}", ast.unparse(mutated)


def _computes_nothing(node: ast.AST) -> bool:
    """Messages, checks that never fail, and what is only for type checkers."""
    match node:
        case ast.JoinedStr() | ast.keyword(arg="strict") | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


def _shown(node: ast.AST) -> str:
    return ast.unparse(node.test if isinstance(node, ast.If) else node)


def _changes(node: ast.AST) -> Iterator:
    """What can be changed in a node, as functions that change it in place."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield lambda twin: twin.ops.__setitem__(0, SWAPS[type(op)]())
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield lambda twin: setattr(twin, "op", SWAPS[type(op)]())
        case ast.Constant(value=bool()):
            yield lambda twin: setattr(twin, "value", not node.value)
        case ast.Constant(value=int() | float()):
            yield lambda twin: setattr(twin, "value", node.value + 1)
        case ast.If() | ast.IfExp():
            yield lambda twin: setattr(twin, "test", ast.UnaryOp(ast.Not(), twin.test))
        case ast.UnaryOp(op=ast.USub()):
            yield lambda twin: setattr(twin, "op", ast.UAdd())
        case ast.UnaryOp(op=ast.Not()):
            yield lambda twin: setattr(twin, "operand", ast.UnaryOp(ast.Not(), twin.operand))


def main() -> int:
    """Try mutants of the committed code; returns 1 if fewer than 95 of 100 are noticed."""
    count, seed = int(os.environ.get("COUNT", 200)), int(os.environ.get("SEED", 0))
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="cifar-report-mutants-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        sources = {name: (clone / "cifar_report" / name).read_text(encoding="utf-8") for name in TESTS}
        found = [(name, *mutant) for name, source in sources.items() for mutant in mutants(source)]
        chosen = random.Random(seed).sample(found, min(count, len(found)))
        last = None
        for number, (name, line, what, text) in enumerate(sorted(chosen), 1):
            path = clone / "cifar_report" / name
            if name != last and not _tests_pass(clone, name):
                raise SystemExit(f"the tests of {name} fail without a change")
            last = name
            path.write_text(text, encoding="utf-8")
            survived = _tests_pass(clone, name)
            path.write_text(sources[name], encoding="utf-8")
            survivors += survived
            if survived:
                print(f"[{number}/{len(chosen)}] survived: {name}:{line}: {what}", flush=True)
    killed = len(chosen) - survivors
    print(f"{killed} of {len(chosen)} mutants were noticed ({killed / len(chosen):.0%}), of {len(found)} possible ones")
    return int(killed < 0.95 * len(chosen))


def _tests_pass(clone: Path, name: str) -> bool:
    files = [f"tests/test_{word}.py" for word in TESTS[name].split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(command, cwd=clone, env=environment, capture_output=True, timeout=1800).returncode == 0
    except subprocess.TimeoutExpired:
        return False


if __name__ == "__main__":
    sys.exit(main())
