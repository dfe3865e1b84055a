"""Write the documentation as a site, the reference report included: `make docs`, or name another folder.

Pages are those of `docs/`, and three that the code writes: parameters, commands, and the Python interface. The site
fetches nothing from elsewhere, and also opens from a folder, without a server.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from html import escape
from pathlib import Path

import typer
from sphinx.cmd.build import build_main
from typer.cli import get_docs_for_click
from typer.main import get_command

from cifar_report import __version__
from cifar_report.cli import app
from cifar_report.cli import main as cifar_report
from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.schema import Experiment, shown
from cifar_report.report.pdf import what_is_missing
from cifar_report.report.sections import NOTE

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "site"
REPORT = ("report.html", "report.pdf", "results.csv")
SETTINGS = {
    "project": "cifar-report",
    "release": __version__,
    "html_title": f"cifar-report {__version__}",
    "html_theme": "furo",
    "html_copy_source": False,
    "html_show_sphinx": False,
    "extensions": ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"],
    "myst_heading_anchors": 3,
    "autodoc_member_order": "bysource",
    "autodoc_typehints_format": "short",
}


def main(site: Path = SITE) -> int:
    """Write the site; returns an exit code. Links that lead nowhere are errors."""
    if missing := what_is_missing():
        print(f"the site holds the report's PDF: {missing}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "docs"
        shutil.copytree(ROOT / "docs", pages)
        for path in pages.glob("*.md"):
            path.write_text(_to_repository(path.read_text(encoding="utf-8")), encoding="utf-8")
        (pages / "parameters.md").write_text(parameters_page(), encoding="utf-8")
        (pages / "commands.md").write_text(commands_page(), encoding="utf-8")
        (pages / "conf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in SETTINGS.items()))
        code = build_main(["-q", "-W", "--keep-going", "-d", f"{folder}/doctrees", str(pages), str(site)])
        if code:
            return code
        report = write_report(Path(folder))
        (site / "report").mkdir(exist_ok=True)
        for name in REPORT:
            shutil.copy(report.parent / name, site / "report" / name)
    print(site / "index.html")
    return 0


def write_report(folder: Path) -> Path:
    """The report of the reference records, as `cifar-report report --profile reference --no-run` writes it."""
    output = folder / "reference"
    shutil.copytree(ROOT / "outputs" / "reference" / "runs", output / "runs")
    shutil.copy(ROOT / "outputs" / "reference" / NOTE, output)
    if code := cifar_report(["report", "--profile", "reference", "--no-run", "--output", str(output)]):
        raise SystemExit(code)
    return output / "report" / "report.html"


def _to_repository(page: str) -> str:
    """Links to files beside `docs/` lead to the repository, and those to the report to its place in the site."""
    repository = f"https://github.com/{load_catalog().repository}/blob/{load_catalog().ref}"
    page = re.sub(r"\]\(\.\./([^)]*)\)", rf"]({repository}/\1)", page)
    return re.sub(r"\[([^]]*)\]\((report/[^)]*)\)", r'<a href="\2">\1</a>', page)


def parameters_page() -> str:
    """Every parameter, as `cifar-report parameters` explains it."""
    fields = Experiment.model_fields.items()
    texts = {name: escape(field.description or "", quote=False).replace("|", "\\|") for name, field in fields}
    rows = [f"| `{name}` | `{shown(field.default)}` | {texts[name]} |" for name, field in fields]
    head = "# Parameters\n\nSet them in `params/`, in a notebook's cell, or after `--set`.\n\n"
    return head + "\n".join(["| parameter | default | meaning |", "|---|---|---|", *rows]) + "\n"


def commands_page() -> str:
    """The command's own help."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="cifar-report"), name="cifar-report")  # type: ignore[arg-type]
    text = re.sub(r"(?m)^(cifar-report .*\n)\n(?=cifar-report)", r"\1", text + "\n")
    text = re.sub(r"Examples:\n\n((?:cifar-report .*\n)+)", r"Examples:\n\n```\n\1```\n", text)
    # In sentences; what is code shows as it is.
    text = re.sub(r"(`[^`\n]*`)|<(\w+)>", lambda found: found[1] or f"&lt;{found[2]}&gt;", text)
    return text.replace("# `cifar-report`", "# Commands", 1)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
