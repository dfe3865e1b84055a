"""How figures are written, wherever people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def percent(fraction: float, digits: int = 0) -> str:
    """A fraction as a percentage: `75.2 %`, with a space that does not break."""
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def points(fraction: float, digits: int = 2) -> str:
    """A difference of two fractions in percentage points, with its sign: `+1.24`, `−0.30`."""
    return signed(100 * fraction, digits)


def signed(difference: float, digits: int = 2) -> str:
    """A difference in its own unit, with its sign: `+1.24`, `−0.30`."""
    rounded = round(round(difference, 9), digits) + 0.0  # no minus before 0.00
    return f"{rounded:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def p_text(p: float) -> str:
    """A p value: `p = 0.024`, `p < 0.001`; rounding takes none over the line at 0.05."""
    if p < 1e-3:
        return "p < 0.001"
    return "p < 0.050" if f"{p:.3f}" == "0.050" and p < 0.05 else f"p = {p:.3f}"


def duration(seconds: float) -> str:
    """A duration in the largest unit that leaves at least two of it: `75 s`, `8 min`, `2.1 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def pflop(cost: float | None) -> str:
    """A training's operations: `0.019`, `<0.001`; a dash where none were counted."""
    return "–" if not cost else f"{cost:.3g}" if cost >= 0.001 else "<0.001"


def counted(count: int, noun: str) -> str:
    """A number of things: `1 run`, `2 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listing(words: Iterable[str]) -> str:
    """Several words in a sentence: `a`, `a and b`, `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def ranges(names: Iterable[str]) -> list[str]:
    """Experiments or seeds, three and more that follow one another as one: `EXP003-EXP006`, `EXP009`."""
    found: list[list[str]] = []
    for name in names:
        before = re.fullmatch(r"(EXP)?(\d+)", found[-1][-1]) if found else None
        if before and name == f"{before[1] or ''}{int(before[2]) + 1:0{len(before[2])}}":
            found[-1].append(name)
        else:
            found.append([name])
    return [word for same in found for word in ([f"{same[0]}-{same[-1]}"] if len(same) > 2 else same)]


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """Second members by the first, in order: what is said once of several."""
    groups: dict[Key, list[Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def number(value: object) -> str:
    """A figure of any kind for a table's cell: at most four significant digits behind the thousands."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 or value.is_integer() else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else "–" if value is None else str(value)


def as_text(value: Value) -> Value | str:
    """A cell of a CSV file: a text that spreadsheets would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
