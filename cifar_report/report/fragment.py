"""A piece of HTML that a notebook displays as such, with a text for whoever cannot see it."""

from __future__ import annotations

from typing import Any


class Fragment:
    """HTML made by this package, in which every text from a run, a parameter or an error is escaped already."""

    def __init__(self, html: str, text: str = "") -> None:
        self.html = html
        self.text = text

    def __html__(self) -> str:  # what Jinja2 asks of text that needs no escaping
        return self.html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}
