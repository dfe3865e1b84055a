"""The documentation as a site: built without a warning, whole, and from nowhere else."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import write_site
from test_pictures import SHOWN, check
from typer.main import get_command

from cifar_report.cli import app
from cifar_report.experiments.schema import Experiment
from cifar_report.report.pdf import what_is_missing

ROOT = Path(__file__).parent.parent
LOADED = (
    r"""(?:<(?:script|img|iframe|source)[^>]+src|<link[^>]+href)=["']?(https?:)?//|url\(["']?(?:https?:)?//|@import"""
)


def test_parameters_and_commands_are_all_explained():
    page = write_site.parameters_page()
    assert all(f"| `{name}` |" in page for name in Experiment.model_fields)
    page = write_site.commands_page()
    assert all(f"## `cifar-report {name}`" in page for name in get_command(app).commands)  # type: ignore[attr-defined]
    assert "Examples:\n\n```\ncifar-report list\n```\n" in page
    assert "`--seeds <str>`" in page


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if missing := what_is_missing():
        pytest.skip(missing)
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "maintenance" / "write_site.py"), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # links that lead nowhere are errors
    return target


@pytest.mark.slow
def test_the_site_has_every_page_and_the_report(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"parameters", "commands"}
    assert pages <= {path.stem for path in site.glob("*.html")}
    assert sorted(path.name for path in (site / "report").iterdir()) == sorted(write_site.REPORT)
    home = (site / "index.html").read_text(encoding="utf-8")
    for target in re.findall(r'href="([^"#:?]+)[#"?]', home):
        assert (site / target).exists(), target
    assert "report/report.html" in home
    assert "Journal" in (site / "python.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site):
    sources = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(sources) > 10
    for path in sources:
        assert not re.search(LOADED, path.read_text(encoding="utf-8")), path


@pytest.fixture
def chromium() -> str:
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or pytest.skip("needs Chromium, Debian's package chromium")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of playwright's own event loop
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_command_makes_the_pictures_of_this_report(site, chromium, tmp_path, monkeypatch):
    import pictures

    monkeypatch.setattr(pictures, "write_report", lambda folder: site / "report" / "report.html")
    assert pictures.main(tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(name).name for name in SHOWN)
    for path in tmp_path.iterdir():
        check(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of playwright's own event loop
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_site_is_read_on_any_screen(site, chromium):
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in (390, 1024, 1600):
            page = browser.new_page(viewport={"width": width, "height": 900})
            for path in sorted(site.glob("*.html")):
                page.goto(path.as_uri())
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path.name, width)
        page.goto((site / "search.html").as_uri() + "?q=lookahead")
        page.wait_for_selector("#search-results li a")
        browser.close()
