"""How many lines of code the library has, without docstrings, comments and blank lines. `make lint` limits them."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1] / "cifar_report"
LIMIT = 7_000
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def lines_of_code(source: str) -> int:
    """Lines that hold code; those of a text over several lines count, those of a docstring do not."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {line for t in tokens if t.type not in NO_CODE for line in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            code -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(code)


def main() -> int:
    """Print the size; returns 1 if it is over the limit."""
    sources = [path.read_text(encoding="utf-8") for path in LIBRARY.rglob("*.py")]
    code, lines = sum(map(lines_of_code, sources)), sum(len(source.splitlines()) for source in sources)
    print(f"cifar_report: {code:,} lines of code (at most {LIMIT:,}), {lines:,} with docstrings and blank lines")
    if code > LIMIT:
        print("remove some before you add more", file=sys.stderr)
    return int(code > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
