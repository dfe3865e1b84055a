"""From recorded runs to files: the executed report notebook, its HTML, the runs' notebooks, results.csv."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from cifar_report.catalog import load_catalog, packaged_folder
from cifar_report.colab import TAG
from cifar_report.pipeline.kernel import ForkedKernel, execute_notebook
from cifar_report.record import RunRecord, atomic_file
from cifar_report.report.journal import Journal
from cifar_report.report.sections import TEMPLATES, notebook_link, results_frame


def make_report(output_dir: Path, *, profile: str, experiments: Sequence[str] = (), seeds: Sequence[int] = ()) -> Path:
    """Write the report of the runs below `output_dir` and return the path of `report.html`.

    Args:
        output_dir: folder that holds `runs/`; the report goes to `report/` in it.
        profile: name of the profile, told at the top.
        experiments: the experiments the report covers, as `Catalog.select` takes them; default: all.
        seeds: the seeds it covers; default: all that were run.
    """
    folder = output_dir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # another command may be writing the same report
        journal = Journal.load(output_dir, experiments, seeds)
        with atomic_file(folder / "results.csv") as temporary:
            results_frame(journal).to_csv(temporary, index=False, float_format="%.6g")
        for result in journal.results.values():
            for run in (*result.runs, *result.failed):
                _export_notebook(result.folder(run) / "notebook.ipynb", folder / notebook_link(run), run)
        executed = folder / "report.ipynb"
        execute_notebook(
            packaged_folder("notebooks") / "report.ipynb",
            executed,
            {
                "output_dir": str(output_dir.resolve()),
                "profile": profile,
                "experiments": list(experiments),
                "seeds": list(seeds),
            },
            kernel=ForkedKernel() if ForkedKernel.possible() else None,  # it needs what is imported here
        )
        page = _to_html(executed, "report.html.j2", load_catalog().title)
        with atomic_file(folder / "report.html") as temporary:
            temporary.write_text(page.replace("<!-- contents -->", _contents(page)), encoding="utf-8")
    return folder / "report.html"


def _export_notebook(notebook: Path, target: Path, run: RunRecord) -> None:
    """Convert a run's executed notebook, unless that was done since it and the templates last changed."""
    if not notebook.is_file():
        return
    newest = max(path.stat().st_mtime for path in (notebook, *(TEMPLATES / "cifar_report").iterdir()))
    if target.is_file() and target.stat().st_mtime >= newest:
        return
    page = _to_html(notebook, "notebook.html.j2", f"{run.experiment}, seed {run.seed}")
    with atomic_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _to_html(notebook: Path, template: str, title: str) -> str:
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    remove = {"enabled": True, "remove_cell_tags": {TAG}}  # the badge is of use in a notebook only
    exporter = HTMLExporter(
        config=Config({"TagRemovePreprocessor": remove}),
        template_name="cifar_report",
        template_file=template,
        extra_template_basedirs=[str(TEMPLATES)],
    )
    resources: dict[str, Any] = {"page_title": title, "page_style": _style()}
    body, _ = exporter.from_filename(str(notebook), resources=resources)
    return body


@cache
def _style() -> str:
    """Our style sheet and the colours of highlighted code, light and dark."""
    from pygments.formatters import HtmlFormatter

    def colours(style: str) -> str:
        return HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight")

    ours = (TEMPLATES / "cifar_report" / "style.css").read_text(encoding="utf-8")
    dark = f"@media (prefers-color-scheme: dark) {{ {colours('github-dark')} }}"
    return f"{ours}\n{colours('default')}\n{dark}"


def _contents(page: str) -> str:
    """Table of contents from the page's second and third level headings."""
    items: list[str] = []
    open_list = False
    for level, anchor, inner in re.findall(r'<h([23]) id="([^"]+)">(.*?)</h[23]>', page, flags=re.DOTALL):
        text = re.sub(r"<a class=\"anchor-link\".*?</a>", "", inner, flags=re.DOTALL)
        text = html.escape(html.unescape(re.sub(r"<[^>]+>", "", text)).strip())
        if level == "3" and not open_list:
            items.append("<ol>")
        elif level == "2" and open_list:
            items.append("</ol>")
        open_list = level == "3"
        items.append(f'<li><a href="#{anchor}">{text}</a></li>')
    return f"<ol>{''.join(items)}{'</ol>' if open_list else ''}</ol>"
