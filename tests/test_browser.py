"""The report in a real browser: Debian's Chromium driven by playwright, axe-core for accessibility."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from records import write_run

from cifar_report.execution.kernel import notebook_executor
from cifar_report.records.record import ErrorRecord, read_record
from cifar_report.report import export
from cifar_report.report.export import make_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, Debian's package chromium"),
    # Of playwright's own event loop, when it ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report with several seeds, failures, own experiments and hostile texts."""
    output = tmp_path_factory.mktemp("journal")
    losses = (1.5, 1.1, 1.0, 1.2, 1.4)
    for name, accuracy in (("EXP000", 0.64), ("EXP001", 0.75), ("EXP002", 0.74), ("EXP011", 0.82), ("EXP012", 0.88)):
        write_run(output, name, accuracy, validation_losses=losses)
    for seed in (0, 1, 2):
        write_run(output, "EXP003", 0.75 + seed / 100, seed=seed, validation_losses=losses)
        write_run(output, "EXP004", 0.74 + seed / 100, seed=seed, validation_losses=losses[::-1])
    error = ErrorRecord(type="ValueError", message=HOSTILE, cell=4, cell_source=f"raise ValueError('{HOSTILE}')")
    write_run(output, "EXP007", failed=error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifar_report.report.export.write_pdf", lambda page, target: None)
        return make_report(output, executor=notebook_executor, profile=HOSTILE)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, report):
    """The report in a window of a laptop; the test fails on any console error, exception or network request."""
    yield from opened(browser, report, viewport={"width": 1280, "height": 900})


def opened(browser, report, **options):
    page = browser.new_page(**options)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append("a dialog opened"))
    page.on("request", lambda r: troubles.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert troubles == []


def test_nothing_hostile_runs(page):
    assert HOSTILE in page.inner_text("main")


def test_contents_lead_there_and_mark_the_place(page):
    page.click(".contents a:text('Optimizers')")
    sync_api.expect(page.locator("#optimizers")).to_be_in_viewport()
    sync_api.expect(page.locator(".contents [aria-current]")).to_have_text("Optimizers")
    assert page.url.endswith("#optimizers")


def rows(page):
    return page.eval_on_selector_all(
        "#results tbody tr", "rows => rows.filter(r => !r.hidden).map(r => r.cells[0].textContent.slice(0, 6))"
    )


def test_results_sort_by_number_and_by_name(page):
    journal_order = rows(page)
    page.click("#results th button:text('Accuracy')")
    assert page.get_attribute("#results th:nth-child(2)", "aria-sort") == "descending"
    assert rows(page)[0] == "EXP012"
    page.click("#results th button:text('Accuracy')")
    assert page.get_attribute("#results th:nth-child(2)", "aria-sort") == "ascending"
    assert rows(page)[0] == "EXP000"
    page.click("#results th button:text('Experiment')")
    assert rows(page) == sorted(journal_order)
    for order in ("descending", "ascending"):
        page.click("#results th button:text('Difference')")
        assert page.get_attribute("#results th:nth-child(4)", "aria-sort") == order
        assert rows(page)[-1] == "EXP000"  # which is compared with nothing


def test_results_sort_by_keyboard(page):
    page.focus("#results th:nth-child(2) button")
    page.keyboard.press("Enter")
    assert rows(page)[0] == "EXP012"


def test_results_are_filtered_by_words(page):
    total = len(rows(page))
    page.fill(".filter input", "lenet xavier")
    assert rows(page) == ["EXP003", "EXP004"]
    assert page.inner_text(".filter [role=status]") == f"2 of {total}"
    page.fill(".filter input", "transfer learning")  # a family's title
    assert rows(page) == ["EXP011", "EXP012"]
    page.fill(".filter input", "nothing such")
    assert rows(page) == []
    page.fill(".filter input", "")
    assert len(rows(page)) == total


def test_details_unfold(page):
    inside = page.locator("#confusion-EXP000 table")
    assert not inside.is_visible()
    page.click("summary:text('EXP000 in detail')")
    assert inside.is_visible()
    page.click("#EXP003 a")  # in its family's table
    assert page.locator("#confusion-EXP003 table").is_visible()


def test_curves_tell_their_values_under_the_pointer_and_by_keys(page):
    plot = page.locator("#curves-initialization")
    plot.scroll_into_view_if_needed()
    slider, values = plot.locator(".plot-slider"), plot.locator(".plot-values")
    assert not values.is_visible()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.4 * box["height"])
    assert values.is_visible()
    assert re.search(r"Epoch [2-4]", values.inner_text())
    assert "EXP003 validation" in values.inner_text()
    page.mouse.move(5, 5)
    slider.focus()
    page.keyboard.press("Home")
    assert "Epoch 1" in values.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") == "3"
    assert "EXP003 validation loss 1" in slider.get_attribute("aria-valuetext")
    page.keyboard.press("Escape")
    assert not values.is_visible()


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(browser, report, width):
    """Neither the page nor a cell whose neighbour it would cover."""
    for page in opened(browser, report, viewport={"width": width, "height": 800}):
        page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        overfull = "cells => cells.filter(c => c.scrollWidth > c.clientWidth + 1).map(c => c.textContent)"
        assert page.eval_on_selector_all(".results td, .results th", overfull) == []
        if width >= 1280:  # a laptop shows tables whole
            wide = "all => all.filter(s => s.scrollWidth > s.clientWidth).map(s => s.getAttribute('aria-label'))"
            assert page.eval_on_selector_all(".scroll", wide) == []
        more = "see => { for (let i = 0; i < 30; i++) see.append(', ', see.querySelector('a').cloneNode(true)) }"
        page.eval_on_selector(".see", more)  # as many links as a large family has
        assert page.eval_on_selector(".see", "see => see.closest('.output_area, main').scrollWidth") <= width


def test_on_a_phone_the_contents_fold_and_figures_can_be_swiped(browser, report):
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    for page in opened(browser, report, **phone):
        link = page.locator(".contents a:text('Optimizers')")
        assert not link.is_visible()
        page.tap(".contents summary")
        link.tap()
        assert not link.is_visible()
        sync_api.expect(page.locator("#optimizers")).to_be_in_viewport()
        sync_api.expect(page.locator(".contents summary")).to_contain_text("Optimizers")
        assert page.locator(".contents summary").bounding_box()["y"] < 20  # it stays on top
        plot = page.locator("#curves-initialization")
        assert plot.locator(".plot-slider").evaluate("s => getComputedStyle(s).touchAction") == "pan-x pan-y"
        plot.locator(".plot-slider").focus()
        page.keyboard.press("End")
        values = plot.locator(".plot-values").bounding_box()
        assert values["x"] >= 0
        assert values["x"] + values["width"] <= 390
        page.keyboard.press("Escape")
        plot.locator(".plot-slider").tap(position={"x": 100, "y": 60})
        assert plot.locator(".plot-values").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light(browser, report, scheme):
    for page in opened(browser, report, color_scheme=scheme):
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", paper)[:3])) / 3
        assert brightness < 60 if scheme == "dark" else brightness > 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("which", "width"), [("report", 390), ("report", 1280), ("notebook", 1280)])
def test_axe_finds_no_violation(browser, report, scheme, which, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    path = {"report": report, "notebook": next((report.parent / "notebooks").glob("*.html"))}[which]
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    page = browser.new_page(bypass_csp=True, **options)  # so that axe itself may run
    page.goto(path.as_uri())
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    found = axe.run(page)
    page.close()
    assert found.violations_count == 0, found.generate_report()


def test_a_notebooks_page_leads_nobody_away(browser, tmp_path):
    """Whatever HTML its cells hold."""
    write_run(tmp_path, "EXP000")
    lure = (
        '<meta http-equiv="refresh" content="0;url=http://127.0.0.1:9/away"><base href="http://127.0.0.1:9/">'
        '<form action="http://127.0.0.1:9/form"><button>send</button></form><script>alert(1)</script>'
        '<!--><meta http-equiv="refresh" content="0;url=http://127.0.0.1:9/comment">-->'
        '<svg><style><meta http-equiv="refresh" content="0;url=http://127.0.0.1:9/style"></style></svg>'
        '<img src="http://127.0.0.1:9/x.png"><iframe src="http://127.0.0.1:9/frame"></iframe> told'
    )
    output = nbformat.v4.new_output("display_data", data={"text/html": lure})
    cells = [nbformat.v4.new_markdown_cell(lure), nbformat.v4.new_code_cell("show()", outputs=[output])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "runs" / "exp000" / "seed-0" / "notebook.ipynb")
    target = tmp_path / "page.html"
    run = read_record(tmp_path / "runs" / "exp000" / "seed-0")
    export._export_notebook(tmp_path / "runs" / "exp000" / "seed-0" / "notebook.ipynb", target, run)
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(target.as_uri())
    page.wait_for_timeout(1500)
    assert page.url == target.as_uri()
    assert page.locator("form, iframe, script, base, meta[http-equiv=refresh]").count() == 0
    assert page.inner_text("main").count("told") == 2
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "http://127.0.0.1:9/x.png"))] == []


def test_everything_is_there_without_scripts(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#results tbody tr").count() == 7
    assert page.locator("#results button").count() == 0
    assert page.locator("#curves-initialization img").is_visible()
    context.close()
