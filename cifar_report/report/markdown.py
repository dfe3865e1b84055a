"""The report's page as Markdown, for a repository or a wiki."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bs4 import BeautifulSoup
from markdownify import MarkdownConverter

from cifar_report.records.files import write_if_changed


def write_markdown(page: str, folder: Path) -> None:
    """The page as `report.md`, its figures as files in `figures/`."""
    soup = BeautifulSoup(page, "html.parser")
    main = soup.main
    assert main is not None  # of our own template
    for unwanted in main.select("script, style, .hidden, a.anchor-link"):
        unwanted.decompose()
    _write_figures(main, folder)
    _plain_structure(main, soup.new_tag)
    # What could be Markdown in a text is escaped, but for code, which is shown as it is.
    text = _Converter(heading_style="ATX", bullets="-", escape_misc=True, table_infer_header=True).convert_soup(main)
    write_if_changed(folder / "report.md", re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")


class _Converter(MarkdownConverter):
    def convert_a(self, el: Any, text: str, parent_tags: Any) -> str:
        if "id" in el.attrs and "href" not in el.attrs:
            return f'<a id="{html.escape(str(el["id"]))}"></a>'
        return super().convert_a(el, text, parent_tags)  # type: ignore[misc]


def _write_figures(main: Any, folder: Path) -> None:
    """Drawings become files, and photographs the words that say what they show."""
    kept = set()
    for figure in main.find_all("figure", id=True):
        group = figure.find(True, attrs={"role": "group"})
        if group:
            group.name, group.string = "p", str(group["aria-label"])
            continue
        for image in figure.find_all("img"):
            kind, _, data = str(image["src"]).partition(",")
            assert kind == "data:image/svg+xml"
            name = f"{figure['id']}.svg"
            write_if_changed(folder / "figures" / name, unquote(data))
            kept.add(name)
            image["src"] = f"figures/{name}"
    for left in (folder / "figures").glob("*.svg"):
        if left.name not in kept:
            left.unlink()


def _plain_structure(main: Any, new_tag: Callable[..., Any]) -> None:
    """What Markdown has no words for: targets of links, lines within a cell."""
    linked = {str(link["href"])[1:] for link in main.find_all("a", href=re.compile("^#"))}
    for target in [element for element in main.find_all(id=True) if element["id"] in linked]:
        anchor = new_tag("a", id=target["id"])
        if target.name in ("li", "h2", "h3", "h4", "tr"):
            (target.find(["th", "td"]) or target).insert(0, anchor)
        else:
            target.insert_before(anchor)
    for small in main.select("td small, th small"):
        small.insert_before(" ")
    for line_break in main.select("td br"):
        line_break.replace_with("" if str(line_break.next_sibling or "").startswith(" ") else " ")
