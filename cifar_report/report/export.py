"""From recorded runs to files: the executed report notebook as HTML, PDF and Markdown, the runs' notebooks, a table."""

from __future__ import annotations

import base64
import gc
import hashlib
import html
import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from cifar_report.experiments.catalog import packaged_folder
from cifar_report.experiments.errors import first_line
from cifar_report.formatting import as_text
from cifar_report.journal.frames import results_frame
from cifar_report.journal.journal import Journal
from cifar_report.journal.work import at_full_budget
from cifar_report.records.files import NOTEBOOK, write_if_changed, write_text
from cifar_report.records.key import COLAB
from cifar_report.records.lock import folder_lock
from cifar_report.records.record import RunRecord, recorded_folder
from cifar_report.report.fragments import TEMPLATES, fragment
from cifar_report.report.markdown import write_markdown
from cifar_report.report.pdf import write_pdf
from cifar_report.report.sections import notebook_link

PATIENCE = 600.0  # seconds for which another command may be writing the same report
ACTIVE = ["meta", "base", "form", "script", "iframe", "frame", "object", "embed", "link", "portal"]


def make_report(
    output_dir: Path,
    *,
    profile: str,
    executor: Callable[[], Callable[[Path, Path, dict[str, Any]], None]],
    experiments: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Path:
    """Write the report of the runs below `output_dir` and return the path of `report.html`.

    Beside it lie `report.pdf`, `report.md` with `figures/`, `results.csv`, and the runs' notebooks as HTML.

    Args:
        output_dir: folder that holds `runs/`; the report goes to `report/` in it.
        executor: returns a function that executes a notebook: its path, the target's path, parameters. Called when all
            that the notebook needs is imported, and no thread runs.
        experiments, seeds: what the report covers; none: all.

    Raises:
        RequestError: a newer version of cifar-report wrote one of the runs.
    """
    # Before there are two threads: where both import IPython at once, one can fail.
    for module in ("IPython.paths", "nbconvert", "papermill"):
        importlib.import_module(module)
    folder = output_dir / "report"
    with folder_lock(folder, wait=PATIENCE), ExitStack() as afterwards:
        gc.disable()  # looking for garbage all the while took a quarter of the time that a PDF takes
        afterwards.callback(gc.collect)
        afterwards.callback(gc.enable)  # the last is called first
        journal = Journal(output_dir, experiments, seeds)
        executed, execute = folder / "report.ipynb", executor()
        parameters: dict[str, Any] = {"output_dir": str(output_dir.resolve()), "profile": profile}
        parameters |= {"experiments": list(experiments), "seeds": list(seeds)}
        with ThreadPoolExecutor(1) as meanwhile:  # another process draws the figures
            exported = meanwhile.submit(_export_notebooks, journal, folder)
            execute(packaged_folder("notebooks") / "report.ipynb", executed, parameters)
            exported.result()
        script = (TEMPLATES / "cifar_report" / "report.js").read_text(encoding="utf-8")
        # A report shows no code; papermill names its cell anew each time.
        without = {"parameters", "injected-parameters", "cifar10" if journal.without_cifar10 else "other-images"}
        full = sum(map(at_full_budget, journal.records))
        cover = fragment("cover.html.j2", journal=journal, profile=profile, full=full)
        page = _to_html(executed, "report.html.j2", journal.title, without, script=script, cover=cover.html)
        page = page.replace("<!-- contents -->", _contents(page))
        write_if_changed(folder / "report.html", page)
        table = results_frame(journal)
        texts = table.select_dtypes(exclude="number").columns
        table[texts] = table[texts].map(as_text)
        if table.empty:
            (folder / "results.csv").unlink(missing_ok=True)
        else:
            write_if_changed(folder / "results.csv", table.to_csv(index=False, float_format="%.6g"))
        write_pdf(page, folder / "report.pdf")
        write_markdown(page, folder)
    return folder / "report.html"


def _export_notebooks(journal: Journal, folder: Path) -> None:
    for run in (*journal.records, *journal.failures):
        if target := notebook_link(journal.output_dir, run):
            _export_notebook(recorded_folder(journal.output_dir, run) / NOTEBOOK, folder / target, run)


def _export_notebook(notebook: Path, target: Path, run: RunRecord) -> None:
    """Convert a run's executed notebook, unless the page is that of this very notebook and these templates already."""
    sources = (notebook, *sorted((TEMPLATES / "cifar_report").iterdir()))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    mark = f"\n<!-- {digest} -->\n"
    if target.is_file() and target.read_text(encoding="utf-8", errors="replace").endswith(mark):
        return
    try:
        page = _to_html(notebook, "notebook.html.j2", f"{run.experiment}, seed {run.seed}")
    except Exception as error:  # nbformat and nbconvert have many for a file that a full disk cut off
        reason = html.escape(first_line(error))
        page = f"<!DOCTYPE html><title>Damaged notebook</title><p>This notebook is damaged: {reason}.</p>"
        mark = ""  # so that it is tried again
    write_text(target, page.rstrip() + mark)


def _to_html(
    path: Path, template: str, title: str, without: Iterable[str] = (), *, script: str = "", cover: str = ""
) -> str:
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    exporter = HTMLExporter(
        # The badge is of use in a notebook only.
        config=Config({"TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": {COLAB, *without}}}),
        template_name="cifar_report",
        template_file=template,
        extra_template_basedirs=[str(TEMPLATES)],
    )
    style = TEMPLATES / "cifar_report" / "style.css"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    resources: dict[str, Any] = {
        "page_title": title,
        "page_style": style.read_text(encoding="utf-8") + ("" if script else _code_colours()),
        "page_script": script,
        "script_policy": f"; script-src 'sha256-{digest}'" if script else "",  # this script and no other
        "cover": cover,
    }
    body, _ = exporter.from_filename(str(path), resources=resources)
    return body if script else _without_active_elements(body)


def _without_active_elements(page: str) -> str:
    """A notebook's page whose cells, which may hold any HTML, have no elements that could lead a reader away.

    The Content-Security-Policy keeps scripts and forms from acting, but not a page from sending its reader elsewhere.
    """
    head, body_tag, body = page.partition("<body>")
    return head + body_tag + re.sub(rf"<(?=/?({'|'.join(ACTIVE)})\b)", "&lt;", body, flags=re.IGNORECASE)


@cache
def _code_colours() -> str:
    """The colours of highlighted code, light and dark."""
    from pygments.formatters import HtmlFormatter

    formatters = (HtmlFormatter(style=style, nobackground=True) for style in ("default", "github-dark"))
    light, dark = (formatter.get_style_defs(".highlight") for formatter in formatters)
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}"


def _contents(page: str) -> str:
    """Table of contents from the page's second and third level headings."""
    heading = r'<h[23] id="([^"]+)">(.*?)(?:<a class="anchor-link".*?)?</h[23]>'
    items = []
    for chapter in re.split("(?=<h2 id=)", page)[1:]:
        found = re.findall(heading, chapter, flags=re.DOTALL)
        texts = ((of, html.unescape(re.sub("<[^>]+>", "", inner)).strip()) for of, inner in found)
        first, *others = (f'<a href="#{of}">{html.escape(text)}</a>' for of, text in texts)
        below = "".join(f"<li>{link}</li>" for link in others)
        items.append(f"<li>{first}{f'<ol>{below}</ol>' if below else ''}</li>")
    return f"<ol>{''.join(items)}</ol>"
