"""How the report's parts become HTML: templates that escape, numbered figures and tables, links to them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.schema import shown
from cifar_report.formatting import counted, duration, number, p_text, pflop, points, ranges
from cifar_report.records.record import run_name
from cifar_report.report.plots import Picture

TEMPLATES = Path(__file__).parent / "templates"

_numbers: dict[str, tuple[str, int]] = {}  # anchor -> (Figure or Table, its number), in the order of their making


class Fragment:
    """A piece of HTML that a notebook displays as such, with a text for whoever cannot see it.

    Every text in it from a run, a parameter or an error is escaped already.
    """

    def __init__(self, html: str, text: str = "") -> None:
        self.html = html
        self.text = text

    def __html__(self) -> str:  # what Jinja2 asks of text that needs no escaping
        return self.html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def fragment(template: str, text: str = "", **values: object) -> Fragment:
    """Fill a template of `templates/fragments`; whatever is not a `Fragment` or made by a template is escaped."""
    return Fragment(_environment.get_template(template).render(text=text, **values), text)


def figure(picture: Picture | Fragment, caption: str, anchor: str) -> Fragment:
    """A picture with its numbered caption."""
    number = _number("Figure", anchor)
    values = json.dumps(picture.panels) if isinstance(picture, Picture) and picture.panels else None
    return fragment("figure.html.j2", number=number, image=picture, caption=caption, anchor=anchor, values=values)


def start_numbering() -> None:
    """Number the next figure and the next table 1: a kernel may make the parts of several journals."""
    _numbers.clear()


def inline(page: Path) -> Fragment:
    """A page in a frame of its own, for a notebook to show."""
    frame = Markup('<iframe srcdoc="{}" title="Report" style="width:100%;height:50rem;border:1px solid #888"></iframe>')
    return Fragment(frame.format(page.read_text(encoding="utf-8")), f"The report: {page}")


def table_number(anchor: str) -> int:
    """The number of the table with this anchor."""
    return _number("Table", anchor)


def reference(anchor: str, text: str = "") -> Markup:
    """A link to a figure or table: `Figure 3`; to one that is made later, by this text."""
    if anchor in _numbers:
        text = "{} {}".format(*_numbers[anchor])
    return Markup('<a href="#{}">{}</a>').format(anchor, text) if text else Markup("")


def _number(word: str, anchor: str) -> int:
    if anchor not in _numbers:
        _numbers[anchor] = (word, 1 + sum(other == word for other, _ in _numbers.values()))
    return _numbers[anchor][1]


_environment = Environment(
    loader=FileSystemLoader(TEMPLATES / "fragments"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals.update(catalog=load_catalog, reference=reference, run_name=run_name, table_number=table_number)
_environment.filters |= {f.__name__: f for f in (counted, duration, number, pflop, points, ranges, shown)}
_environment.filters |= {
    "p_value": p_text,
    "in_percent": lambda fraction: f"{100 * fraction:.2f}",
    "moment": lambda text: datetime.fromisoformat(text).strftime("%d %B %Y, %H:%M UTC"),
}
