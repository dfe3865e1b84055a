"""Errors for the person at the keyboard: one exception, and the sentence for an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(Exception):
    """A request, file or parameter is wrong; `str(error)` is one clear sentence, shown without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it, by IPython's protocol."""
        return [f"{type(self).__name__}: {self}"]


def first_line(error: BaseException) -> str:
    """Return the first line of the error's message, or the name of its class where it has none."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def unknown(kind: str, name: str, known: Iterable[str], where: str = "", *, see: str = "") -> RequestError:
    """The error for a name that does not exist: `unknown parameter 'epoch' in exp003.yaml; did you mean 'epochs'?`.

    `see` lists the known names; it is named where none is near.
    """
    hint = did_you_mean(name, known) or (see and f"; see {see}")
    return RequestError(f"unknown {kind} '{name}'{f' in {where}' if where else ''}{hint}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'epochs'?"` for the nearest known name, or an empty text."""
    folded = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean '{folded[nearest[0]]}'?" if nearest else ""
