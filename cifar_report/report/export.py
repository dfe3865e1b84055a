"""From recorded runs to files: the executed report notebook as HTML, PDF and Markdown, the runs' notebooks, a table."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cifar_report.catalog import load_catalog, packaged_folder
from cifar_report.colab import TAG
from cifar_report.lock import folder_lock
from cifar_report.pipeline.kernel import ForkedKernel, execute_notebook
from cifar_report.record import RunRecord, atomic_file, refuse_newer
from cifar_report.report.frames import results_frame
from cifar_report.report.journal import Journal, at_full_budget
from cifar_report.report.layout import TEMPLATES, page_style
from cifar_report.report.sections import notebook_link

ACTIVE = ["meta", "base", "form", "script", "iframe", "frame", "object", "embed", "link", "portal"]
PDF_OPTIONS = {"pdf_tags": True}  # for screen readers; versions of WeasyPrint before 66 ignore it


def make_report(
    output_dir: Path,
    *,
    profile: str,
    experiments: Sequence[str] = (),
    seeds: Sequence[int] = (),
    say: Callable[[str], None] = print,
) -> Path:
    """Write the report of the runs below `output_dir` and return the path of `report.html`.

    Beside it lie `report.pdf`, `report.md` with `figures/`, `results.csv`, and the runs' notebooks as HTML.

    Args:
        output_dir: folder that holds `runs/`; the report goes to `report/` in it.
        profile: name of the profile, told at the top.
        experiments: the experiments the report covers, as `Catalog.select` takes them; default: all.
        seeds: the seeds it covers; default: all that were run.
        say: told what could not be made, and why.

    Raises:
        RequestError: a newer version of cifar-report wrote one of the runs.
    """
    folder = output_dir / "report"
    with folder_lock(folder):  # another command may be writing the same report
        for record in sorted(output_dir.glob("runs/*/seed-*/run.json")):
            refuse_newer(record.parent)
        journal = Journal.load(output_dir, experiments, seeds)
        executed = folder / "report.ipynb"
        kernel = ForkedKernel() if ForkedKernel.possible() else None  # it needs what is imported here
        with ThreadPoolExecutor(1) as meanwhile:  # another process draws the figures
            exported = meanwhile.submit(_export_notebooks, journal, folder)
            execute_notebook(
                packaged_folder("notebooks") / "report.ipynb",
                executed,
                {
                    "output_dir": str(output_dir.resolve()),
                    "profile": profile,
                    "experiments": list(experiments),
                    "seeds": list(seeds),
                },
                kernel=kernel,
            )
            exported.result()
        script = (TEMPLATES / "cifar_report" / "report.js").read_text(encoding="utf-8")
        page = _to_html(executed, "report.html.j2", load_catalog().title, script=script, cover=_cover(journal, profile))
        page = page.replace("<!-- contents -->", _contents(page))
        if not _says(folder / "report.html", page):
            (folder / "report.md").unlink(missing_ok=True)  # it is that of another page
            _write(folder / "report.html", page)
        table = results_frame(journal)
        if table.empty:
            (folder / "results.csv").unlink(missing_ok=True)
        else:
            _write(folder / "results.csv", table.to_csv(index=False, float_format="%.6g"))
        _write_pdf(page, folder / "report.pdf", say)
        if not (folder / "report.md").is_file():
            _write_markdown(page, folder, say)
    return folder / "report.html"


def _write(path: Path, text: str) -> None:
    """Write a file, unless it says the same already: its time tells when it last changed."""
    if _says(path, text):
        return
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _says(path: Path, text: str) -> bool:
    """Whether a file holds just this text."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _export_notebooks(journal: Journal, folder: Path) -> None:
    for result in journal.results.values():
        for run in (*result.runs, *result.failed):
            if target := notebook_link(journal.output_dir, run):
                _export_notebook(result.folder(run) / "notebook.ipynb", folder / target, run)


def _export_notebook(notebook: Path, target: Path, run: RunRecord) -> None:
    """Convert a run's executed notebook, unless the page is that of this very notebook and these templates already."""
    sources = (notebook, *sorted((TEMPLATES / "cifar_report").iterdir()))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    mark = f"\n<!-- {digest} -->\n"
    if target.is_file() and target.read_text(encoding="utf-8").endswith(mark):
        return
    page = _to_html(notebook, "notebook.html.j2", f"{run.experiment}, seed {run.seed}")
    with atomic_file(target) as temporary:
        temporary.write_text(page.rstrip() + mark, encoding="utf-8")


def _to_html(notebook: Path, template: str, title: str, *, script: str = "", cover: Sequence[str] = ()) -> str:
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    # The badge is of use in a notebook only. A report shows no code; papermill names its cell anew each time.
    tags = {TAG, "parameters", "injected-parameters"} if script else {TAG}
    remove = {"enabled": True, "remove_cell_tags": tags}
    exporter = HTMLExporter(
        config=Config({"TagRemovePreprocessor": remove}),
        template_name="cifar_report",
        template_file=template,
        extra_template_basedirs=[str(TEMPLATES)],
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    resources: dict[str, Any] = {
        "page_title": title,
        "page_style": page_style() if script else page_style() + _code_colours(),
        "page_script": script,
        "script_policy": f"; script-src 'sha256-{digest}'" if script else "",  # this script and no other
        "cover": cover,
    }
    body, _ = exporter.from_filename(str(notebook), resources=resources)
    return body if script else _without_active_elements(body)


def _without_active_elements(page: str) -> str:
    """A notebook's page without elements that could lead a reader away: its cells may hold any HTML.

    The Content-Security-Policy keeps scripts and forms from acting, but not a page from sending its reader elsewhere.
    """
    head, body_tag, body = page.partition("<body>")
    if not re.search(rf"<({'|'.join(ACTIVE)})\b", body, re.IGNORECASE):
        return page
    from bs4 import BeautifulSoup

    parsed = BeautifulSoup(body, "html.parser")
    for element in parsed.find_all(ACTIVE):
        element.decompose()
    return head + body_tag + str(parsed)


@cache
def _code_colours() -> str:
    """The colours of highlighted code, light and dark."""
    from pygments.formatters import HtmlFormatter

    light, dark = (
        HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight")
        for style in ("default", "github-dark")
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"


def _cover(journal: Journal, profile: str) -> list[str]:
    """The lines of the printed title page below the title."""
    runs = [run for result in journal.complete.values() for run in result.runs]
    full = sum(at_full_budget(run) for run in runs)
    return [
        f"Experiment journal, profile {profile}",
        f"{len(journal.complete)} experiments, {len(runs)} complete runs, {full} of them at the original's budget",
        *([f"Last run finished {max(run.finished_at for run in runs)[:10]}"] if runs else []),
    ]


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
    nested = re.sub(r"</li><ol>(.*?)</ol>", r"<ol>\1</ol></li>", "".join(items) + ("</ol>" if open_list else ""))
    return f"<ol>{nested}</ol>"


def _write_pdf(page: str, target: Path, say: Callable[[str], None]) -> None:
    """The page on paper, made by WeasyPrint; unless the PDF is that of this very page already."""
    mark = target.with_name(".report.pdf.sha256")
    digest = hashlib.sha256(page.encode()).hexdigest()
    if target.is_file() and mark.is_file() and mark.read_text() == digest:
        return
    target.unlink(missing_ok=True)  # one of another page would contradict this one
    try:
        import weasyprint
    except ImportError:
        say("no PDF was made: pip install weasyprint")
        return
    except OSError:  # it is there, but a library that it loads is not
        say(
            "no PDF was made: WeasyPrint needs the shared library Pango, which Debian and Ubuntu have in the package "
            "libpango-1.0-0 with libpangoft2-1.0-0, Fedora in pango, Homebrew in pango"
        )
        return
    page = re.sub(r"<a href=\"(?!#|https?:)[^\"]*\">(.*?)</a>", r"\1", page, flags=re.DOTALL)  # paper has no files
    try:
        with atomic_file(target) as temporary:
            weasyprint.HTML(string=page).write_pdf(temporary, **PDF_OPTIONS)
    except Exception as error:  # the page is there, and worth more than no report
        say(f"no PDF was made: WeasyPrint failed with {type(error).__name__}: {error}")
        return
    mark.write_text(digest)


def _write_markdown(page: str, folder: Path, say: Callable[[str], None]) -> None:
    """The page as `report.md`, its figures as files in `figures/`."""
    try:
        from bs4 import BeautifulSoup
        from markdownify import MarkdownConverter
    except ImportError:
        say("no report.md was made: pip install markdownify")
        return
    main = BeautifulSoup(page, "html.parser").main
    assert main is not None  # of our own template
    for unwanted in main.select("script, style, .hidden, a.anchor-link"):
        unwanted.decompose()
    _write_figures(main, folder)
    _plain_structure(main)

    class Converter(MarkdownConverter):
        def convert_a(self, el: Any, text: str, parent_tags: Any) -> str:
            if "id" in el.attrs and "href" not in el.attrs:
                return f'<a id="{html.escape(str(el["id"]))}"></a>'
            return super().convert_a(el, text, parent_tags)  # type: ignore[misc]

    # What could be Markdown in a text is escaped, but for code, which is shown as it is.
    text = Converter(heading_style="ATX", bullets="-", escape_misc=True, table_infer_header=True).convert_soup(main)
    _write(folder / "report.md", re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")


def _write_figures(main: Any, folder: Path) -> None:
    """Drawings become files, and photographs the words that say what they show."""
    from bs4 import BeautifulSoup

    kept = set()
    for figure in main.find_all("figure", id=True):
        group = figure.find(True, attrs={"role": "group"})
        if group:
            group.replace_with(BeautifulSoup(f"<p>{html.escape(str(group['aria-label']))}</p>", "html.parser"))
            continue
        for image in figure.find_all("img"):
            kind, _, data = str(image["src"]).partition(",")
            assert kind == "data:image/svg+xml"
            name = f"{figure['id']}.svg"
            _write(folder / "figures" / name, unquote(data))
            kept.add(name)
            image["src"] = f"figures/{name}"
    for left in (folder / "figures").glob("*.svg"):
        if left.name not in kept:
            left.unlink()


def _plain_structure(main: Any) -> None:
    """What Markdown has no words for: targets of links, lists of definitions, lines within a cell."""
    from bs4 import BeautifulSoup

    linked = {str(link["href"])[1:] for link in main.find_all("a", href=re.compile("^#"))}
    for target in [element for element in main.find_all(id=True) if element["id"] in linked]:
        anchor = BeautifulSoup("", "html.parser").new_tag("a", id=target["id"])
        if target.name in ("li", "h2", "h3", "h4"):
            target.insert(0, anchor)
        else:
            target.insert_before(anchor)
    for term in main.find_all("dt"):
        term.name = "b"
        term.append(":")
        line = term.wrap(BeautifulSoup("", "html.parser").new_tag("li"))
        line.append(" ")
        line.append(line.find_next("dd").extract())
        line.find("dd").unwrap()
    for terms in main.find_all("dl"):
        terms.name = "ul"
    for small in main.select("td small"):
        small.insert_before(" ")
    for line_break in main.select("td br"):
        line_break.replace_with(", ")
