"""The report on paper and as Markdown."""

import builtins
import re

import numpy as np
import pytest
from records import write_run

from cifar_report.data.cache import load_images
from cifar_report.execution.kernel import notebook_executor
from cifar_report.experiments.catalog import load_catalog
from cifar_report.records.record import ErrorRecord, run_folder, write_record
from cifar_report.report.export import make_report
from cifar_report.report.markdown import write_markdown
from cifar_report.report.pdf import write_pdf

pdfplumber = pytest.importorskip("pdfplumber", reason="needs pdfplumber: pip install -e '.[dev]'")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
MARGIN = 17 / 25.4 * 72  # points; as in the style sheet's @page


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Five experiments; the images of one of them are on this machine, so that its mistakes are shown."""
    output = tmp_path_factory.mktemp("journal")
    for name, accuracy in (("EXP000", 0.64), ("EXP001", 0.75), ("EXP003", 0.76), ("EXP004", 0.7), ("EXP011", 0.82)):
        mine = {"index": np.arange(300), "lucky": 640} if name == "EXP000" else {}  # wrong on the last twenty
        run = write_run(output, name, accuracy, **mine)
        if name == "EXP000":
            assert run.data is not None
            data = run.data.model_copy(update={"name": "digits", "sha256": load_images("digits")[0].sha256})
            write_record(run_folder(output, name, 0), run.model_copy(update={"data": data}))
    hostile = "<img src=x> | <script> ![p](http://evil.example/x.png) [click](javascript:alert(1)) `x`"
    write_run(output, "EXP007", failed=ErrorRecord(type="X", message=hostile, cell=None, cell_source=None))
    page = make_report(output, executor=notebook_executor, profile="full")
    if not (page.parent / "report.pdf").is_file():
        pytest.skip("this machine cannot make it: see what it printed")
    return page


def test_pdf_has_a_title_page_contents_with_page_numbers_and_numbered_pages(report):
    with pdfplumber.open(report.with_suffix(".pdf")) as pdf:
        texts = [page.extract_text() for page in pdf.pages]
    count = len(texts)
    assert 6 < count < 20
    assert "What changes the score on CIFAR-10?" in texts[0].replace("\n", " ")
    assert "Experiment journal, profile full" in texts[0]
    assert texts[1].startswith("Contents")
    entry = re.search(r"Initial weights ?\.+ ?(\d+)", texts[1])
    assert entry is not None
    assert "Initial weights" in texts[int(entry[1]) - 1]
    for number, text in enumerate(texts[1:], start=2):
        assert f"{number} / {count}" in text


def test_a_whole_journals_body_is_at_most_25_pages_10_of_them_beyond_the_original(tmp_path):
    losses = (1.6, 1.4, 1.2, 1.1, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
    for number, name in enumerate(load_catalog().entries):
        write_run(tmp_path, name, 0.4 + number / 110, validation_losses=losses)
    page = make_report(tmp_path, executor=notebook_executor, profile="full")
    if not page.with_suffix(".pdf").is_file():
        pytest.skip("this machine cannot make it")
    with pdfplumber.open(page.with_suffix(".pdf")) as pdf:
        contents = pdf.pages[1].extract_text()
    beyond, summary, appendix = (
        int(re.search(rf"{title} ?\.+ ?(\d+)", contents)[1]) for title in ("Beyond the original", "Summary", "Appendix")
    )
    assert summary - beyond <= 10
    assert appendix - 2 <= 25  # behind the title page and the contents


def test_nothing_leaves_the_page(report):
    with pdfplumber.open(report.with_suffix(".pdf")) as pdf:
        for page in pdf.pages:
            for word in page.extract_words():
                assert word["x0"] >= MARGIN - 1, (page.page_number, word["text"])
                assert word["x1"] <= page.width - MARGIN + 1, (page.page_number, word["text"])
            for image in page.images:
                assert image["x1"] <= page.width - MARGIN + 1


def test_mistakes_are_small_pictures_in_rows(report):
    with pdfplumber.open(report.with_suffix(".pdf")) as pdf:
        page = next(p for p in pdf.pages if "the wrong answers it was surest of" in (p.extract_text() or ""))
        assert len(page.images) >= 10
        assert all(image["width"] < 90 for image in page.images)


def test_no_heading_is_left_alone_at_the_foot_of_a_page(report):
    with pdfplumber.open(report.with_suffix(".pdf")) as pdf:
        for page in pdf.pages[2:]:
            lines = [line for line in page.extract_text_lines() if line["bottom"] < page.height - 60]
            assert lines[-1]["chars"][0]["size"] < 11, (page.page_number, lines[-1]["text"])


def test_pdf_is_made_again_only_for_another_page_and_damaged_markdown_is(report):
    pdf = report.with_suffix(".pdf")
    make_report(report.parent.parent, executor=notebook_executor, profile="full")  # nothing changed since the first
    text = report.with_suffix(".md")
    assert "Nothing: the runs are the same as in the report of" in text.read_text()
    figure = report.parent / "figures" / "ladder.svg"
    before, whole = pdf.stat().st_mtime_ns, (text.read_text(), figure.read_text())
    for damaged in (text, figure):
        damaged.write_text("<sv")
    make_report(report.parent.parent, executor=notebook_executor, profile="full")
    assert pdf.stat().st_mtime_ns == before
    assert (text.read_text(), figure.read_text()) == whole


def test_a_damaged_pdf_is_made_again(tmp_path):
    pdf = tmp_path / "report.pdf"
    write_pdf("<html><p>One.</p></html>", pdf)
    if not pdf.is_file():
        pytest.skip("this machine cannot make it")
    whole = pdf.read_bytes()
    pdf.write_bytes(whole[:100])
    write_pdf("<html><p>One.</p></html>", pdf)
    assert pdf.read_bytes()[-6:] == whole[-6:]
    before = pdf.stat().st_mtime_ns
    write_pdf("<html><p>One.</p></html>", pdf)
    assert pdf.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("error", "words"), [(ImportError("no"), "pip install weasyprint"), (OSError("no pango"), "libpango-1.0-0")]
)
def test_without_weasyprint_or_its_libraries_the_reason_is_told(tmp_path, monkeypatch, error, words, said):
    usual = builtins.__import__

    def without(name, *rest, **named):
        if name == "weasyprint":
            raise error
        return usual(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "report.pdf").write_text("of another page")
    write_pdf("<html></html>", tmp_path / "report.pdf")
    assert words in said()[0]
    assert not list(tmp_path.iterdir())


def test_a_pdf_that_is_open_elsewhere_is_named_and_stops_nothing(tmp_path, monkeypatch, said):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "being used by another process")  # as on Windows

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    (tmp_path / "report.pdf").write_text("of another page")
    write_pdf("<html></html>", tmp_path / "report.pdf")
    assert "is open in another program; close it" in said()[0]


def test_pdf_is_tagged_for_screen_readers(report):
    with pdfplumber.open(report.with_suffix(".pdf")) as pdf:
        assert pdf.doc.catalog["MarkInfo"]["Marked"]


def test_markdown_has_the_tables_and_names_its_figures(report):
    text = report.with_suffix(".md").read_text()
    assert text.startswith("# What changes the score on CIFAR-10?")
    assert "## Results at a glance" in text
    assert re.search(r"\| \[EXP003\]\(#EXP003\).*\| \*\*76.00\*\* \| [0-9.–]+ Wilson, n \\= 1 \|", text)
    figures = re.findall(r"!\[[^]]+\]\((figures/[^)]+)\)", text)
    assert "figures/ladder.svg" in figures
    assert "figures/curves-initialization.svg" in figures
    for name in figures:
        assert (report.parent / name).read_text().startswith("<svg")
    assert "data:" not in text


def test_paper_has_links_to_itself_and_the_web_alone(tmp_path):
    links = '<a href="a.html" title="t">1</a> <a href="b.html">2</a> <a href="https://c.org">3</a> <a href="#d">4</a>'
    write_pdf(f'<main><h1 id="d">d</h1>{links}</main>', tmp_path / "report.pdf")
    with pdfplumber.open(tmp_path / "report.pdf") as pdf:
        assert [link["uri"] for link in pdf.pages[0].hyperlinks] == ["https://c.org"]


def test_rows_that_are_linked_to_keep_their_columns_and_small_words_stand_apart(tmp_path):
    small = "<small>to 76,<br> better</small>"
    row = f'<tr id="x"><th>LeNet<small>weights: local file</small></th><td>75{small}</td></tr>'
    page = f'<main><a href="#x">to it</a><table><tr><th>a</th><th>b</th></tr>{row}</table></main>'
    write_markdown(page, tmp_path)
    assert '\n| <a id="x"></a>LeNet weights: local file | 75 to 76, better |' in (tmp_path / "report.md").read_text()


def test_markdown_links_lead_somewhere_and_hostile_text_is_text(report):
    from markdown_it import MarkdownIt

    text = report.with_suffix(".md").read_text()
    shown = MarkdownIt("commonmark").enable("table").render(text)
    targets = set(re.findall(r'<a id="([^"]+)">', shown))
    links = re.findall(r'<a href="([^"]*)"', shown)
    assert "#ladder" in links
    assert {link for link in links if link.startswith("#")} <= {f"#{target}" for target in targets}
    assert "#" not in links
    assert "![p](http://evil.example/x.png) [click](javascript:alert(1)) `x`" in shown
    assert not re.search(r"<(script|img src=.?x|a href=.?javascript)", shown)
