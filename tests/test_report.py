"""The report: from records, and the whole journal end to end."""

import csv
import hashlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from records import write_run

from cifar_report import __version__
from cifar_report.cli import main
from cifar_report.execution.kernel import notebook_executor
from cifar_report.experiments.catalog import load_catalog
from cifar_report.journal.journal import Journal
from cifar_report.records.record import ErrorRecord, run_folder, write_record
from cifar_report.report import fragments, sections
from cifar_report.report.export import make_report

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def test_what_two_threads_import_is_imported_before_there_are_two(tmp_path):
    """Where both import IPython at once, one can fail: seen once on a fresh clone."""
    script = (
        "import sys, pathlib\n"
        "from cifar_report.report.export import make_report\n"
        "def executor():\n"
        "    sys.exit('absent' if {'IPython.paths', 'nbconvert', 'papermill'} - set(sys.modules) else 'present')\n"
        f"make_report(pathlib.Path({str(tmp_path)!r}), profile='quick', executor=executor)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stderr.strip().splitlines()[-1] == "present"


UNTOLD = r'<img [^>]*alt=""[^>]*>(?!<figcaption>)'  # an image that neither a text of its own nor a caption tells


class Page(HTMLParser):
    """Checks that tags nest, and collects headings, links, identifiers, images and what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict] = []
        self.loads: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "img":
            self.images.append(given)
        if tag in ("link", "iframe", "object"):
            self.loads.append(tag)
        self.loads += [v for k, v in given.items() if k == "src" and not v.startswith("data:")]
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and {"h1", "h2", "h3"} & set(self.open) and data != "¶":
            self.headings[-1] += data


def check(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.loads == []
    assert len(set(page.ids)) == len(page.ids)
    assert all("alt" in image for image in page.images)
    assert not re.search(UNTOLD, path.read_text(encoding="utf-8"))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        elif not link.startswith("http"):
            assert (path.parent / link).is_file(), link
    return page


@pytest.mark.slow
def test_report_from_records_shows_results_failures_and_gaps(tmp_path, no_data, no_pdf):
    write_run(tmp_path, "EXP000", 0.64)
    write_run(tmp_path, "EXP001", 0.75)
    write_run(tmp_path, "EXP003", 0.76, seed=0)
    write_run(tmp_path, "EXP003", 0.77, seed=1)
    (run_folder(tmp_path, "EXP001", 0) / "notebook.ipynb").unlink()  # as of a run made by hand
    hostile = "<script>alert(1)</script>"
    error = ErrorRecord(type="ValueError", message=hostile, cell=4, cell_source=f"raise ValueError('{hostile}')")
    for name, seed in (("EXP007", 0), ("EXP007", 1), ("EXP008", 0), ("EXP003", 2)):
        write_run(tmp_path, name, seed=seed, failed=error)
    write_run(tmp_path, "EXP010", failed=error.model_copy(update={"type": "=1+1"}))
    path = make_report(tmp_path, executor=notebook_executor, profile="full")
    text = path.read_text()
    page = check(path)
    assert page.headings == [
        load_catalog().title,
        *("In short", "Results at a glance", "Introduction", "Experiment journal"),
        *(family.title for family in load_catalog().families if not family.beyond),
        "Beyond the original",
        *(family.title for family in load_catalog().families if family.beyond),
        *(
            "What we expected of these experiments",
            "Summary",
            "What the original report says, and what these records say of it",
        ),
        *("Possible improvements", "Changed since the last report"),
        *("Appendix", "The baseline: details", "Larger architectures: details", "Initial weights: details"),
        "How to cite this report",
        "References",
    ]
    assert "t, n = 2, 1 df" in text
    assert "failed in code cell 4" in text
    assert hostile not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "not the full budget" not in text  # all complete runs here did the original's work
    assert "Not among these records: " in text
    with (tmp_path / "report" / "results.csv").open(newline="") as stream:
        rows = {(row["experiment"], row["seed"]): row for row in csv.DictReader(stream)}
    assert float(rows["EXP001", "0"]["accuracy"]) == 75
    assert rows["EXP007", "0"]["status"] == "failed"
    assert rows["EXP010", "0"]["error"].startswith("'=1+1")  # no formula


@pytest.mark.slow
def test_report_of_nothing_is_still_a_report(tmp_path, no_data, no_pdf):
    page = check(make_report(tmp_path, executor=notebook_executor, profile="quick"))
    assert "Summary" in page.headings


@pytest.mark.slow
def test_a_report_of_fewer_experiments_says_nothing_of_the_others(tmp_path, no_data, no_pdf):
    for name in ("EXP000", "EXP011"):
        write_run(tmp_path, name)
    text = make_report(tmp_path, executor=notebook_executor, profile="full").with_suffix(".md")
    assert "EXP011" in text.read_text()
    make_report(tmp_path, executor=notebook_executor, profile="full", experiments=["EXP000"])
    assert "EXP011" not in text.read_text().split("## Results at a glance")[1].split("## Introduction")[0]


def test_a_folders_note_stands_in_the_introduction_of_its_report(tmp_path):
    write_run(tmp_path, "EXP000", 0.64)
    (tmp_path / "note.md").write_text("Trained by *our* class.")
    assert "Trained by <em>our</em> class" in sections.protocol(Journal(tmp_path)).html
    (tmp_path / "note.md").unlink()
    assert "Trained by" not in sections.protocol(Journal(tmp_path)).html


def test_a_note_leads_no_reader_away_and_loads_nothing(tmp_path):
    write_run(tmp_path, "EXP000")
    html = "<meta http-equiv=refresh content=0>\n\n<img src=x>\n\n*well* <style>p {}</style>"
    (tmp_path / "note.md").write_text(f"{html}\n\n![picture](file:///etc/hostname)")
    html = sections.protocol(Journal(tmp_path)).html
    assert "<em>well</em>" in html
    assert "&lt;meta" in html
    assert not re.search("<(meta|img|style)", html)


def test_banner_says_when_data_or_budget_are_not_the_originals(tmp_path):
    run = write_run(tmp_path, "EXP000", 0.64)
    assert "not the full budget" not in sections.banner(Journal(tmp_path), "full").html
    write_run(tmp_path, "EXP011", 0.7, lacks_weights=True)
    html = sections.banner(Journal(tmp_path), "quick").html
    assert "1 of 2 runs had the" in html
    assert "Not CIFAR-10." not in html
    assert run.data is not None
    digits = run.data.model_copy(update={"name": "digits"})
    write_record(run_folder(tmp_path, "EXP000", 0), run.model_copy(update={"data": digits, "warnings": ["A warning"]}))
    html = sections.banner(Journal(tmp_path), "quick").html
    assert "Not CIFAR-10." in html
    assert "A warning." in html


def test_the_report_is_cited_with_a_digest_of_its_records(tmp_path):
    for name in ("EXP000", "EXP003"):
        write_run(tmp_path, name, 0.7)
    text = sections.citation(Journal(tmp_path)).html
    records = [(tmp_path / "runs" / name / "seed-0" / "run.json").read_bytes() for name in ("exp000", "exp003")]
    assert f"2 experiments, 2 runs; records SHA-256 {hashlib.sha256(b''.join(records)).hexdigest()}" in text
    assert f"cifar-report {__version__}" in text
    assert "author = {{The cifar-report developers}}" in text
    (tmp_path / "none").mkdir()
    assert "0 runs" in sections.citation(Journal(tmp_path / "none")).html


def test_curves_of_a_family_show_what_it_builds_on_where_epochs_are_as_many(tmp_path):
    family = load_catalog().family_named("optimizers")
    write_run(tmp_path, "EXP007")
    write_run(tmp_path, "EXP003")
    assert "dotted, for comparison: EXP003." in sections.family_section(family, Journal(tmp_path)).html
    write_run(tmp_path, "EXP003", validation_losses=(1.5, 1.0))
    assert "dotted" not in sections.family_section(family, Journal(tmp_path)).html


def test_a_training_loss_of_other_labels_is_marked(tmp_path):
    write_run(tmp_path, "EXP003", 0.7)
    write_run(tmp_path, "EXP004", 0.7, parameters={"label_smoothing": 0.1})
    family = load_catalog().family_named("initialization")
    text = sections.family_section(family, Journal(tmp_path)).html
    assert text.count(" ‡</td>") == 1
    assert "‡ This loss is of smoothed or mixed labels" in text
    write_run(tmp_path, "EXP004", 0.7)
    assert "‡" not in sections.family_section(family, Journal(tmp_path)).html


def test_a_run_that_is_not_what_it_is_called_is_named(tmp_path):
    write_run(tmp_path, "EXP003", parameters={"epochs": 3, "train_limit": 500})
    assert "own parameters" not in sections.banner(Journal(tmp_path), "quick").html
    write_run(tmp_path, "EXP008", parameters={"optimizer": "adam", "momentum": 0})
    html = sections.banner(Journal(tmp_path), "quick").html
    assert "EXP008 (optimizer is adam, not rmsprop)." in html


def test_records_of_before_a_parameter_existed_are_shown(tmp_path, no_data):
    record = write_run(tmp_path, "EXP003")
    older = {name: value for name, value in record.parameters.items() if name not in ("fold", "folds")}
    write_record(run_folder(tmp_path, "EXP003", 0), record.model_copy(update={"parameters": older}))
    assert "EXP003: parameters and provenance" in sections.appendix(Journal(tmp_path)).html


def test_of_other_pictures_no_figure_of_the_originals_is_shown(tmp_path):
    run = write_run(tmp_path, "EXP003", 0.7)
    assert "75.70" in sections.results_at_a_glance(Journal(tmp_path)).html
    assert "Statements of the original" in sections.statement_table(Journal(tmp_path)).html
    assert run.data is not None
    other = run.data.model_copy(update={"name": "folder"})
    write_record(run_folder(tmp_path, "EXP003", 0), run.model_copy(update={"data": other}))
    assert "75.70" not in sections.results_at_a_glance(Journal(tmp_path)).html
    assert 'id="statements">These statements' in sections.statement_table(Journal(tmp_path)).html  # the abstract's link


def test_figures_and_tables_are_numbered_apart_in_their_order(monkeypatch):
    monkeypatch.setattr(fragments, "_numbers", {})
    assert [fragments.table_number(name) for name in ("results", "family", "results")] == [1, 2, 1]
    assert fragments._number("Figure", "ladder") == 1
    assert str(fragments.reference("ladder")) == '<a href="#ladder">Figure 1</a>'
    assert str(fragments.reference("family")) == '<a href="#family">Table 2</a>'
    assert str(fragments.reference("later")) == ""


def test_a_family_without_runs_is_named_and_no_more(tmp_path):
    write_run(tmp_path, "EXP003")
    journal = Journal(tmp_path)
    html = {family.name: sections.family_section(family, journal).html for family, _ in journal.families()}
    assert "Motivation" in html["initialization"]
    assert "Not among these records: <span" in html["normalization"]
    assert "EXP020" in html["normalization"]
    assert "Motivation" not in html["normalization"]


def test_motivation_comes_from_the_notebook():
    for family in load_catalog().families:
        assert len(sections.motivation(family)) > 300


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_journal_end_to_end_on_digits(tmp_path, no_data, capsys, no_pdf):
    """Every experiment on a machine without data, weights and network; then again, executing nothing."""
    command = ["report", "--profile", "quick", "--output", str(tmp_path / "out"), "--jobs", "2", "--set"]
    count = len(load_catalog().entries)
    command += ["train_limit=64 test_limit=30 epochs=1 batch_size=32 image_size=32"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "WARNING: CIFAR-10 not found" in out
    assert f"{count} runs planned, 0 complete, {count} to execute" in out

    report = tmp_path / "out" / "report" / "report.html"
    page = check(report)
    text = report.read_text()
    assert "Not CIFAR-10." in text
    assert "not the full budget" in text
    assert "Not among these records: " not in text
    assert "FAILED" not in out
    assert len([image for image in page.images if "Learning curves" in image["alt"]]) == len(load_catalog().families)
    for family in load_catalog().families:
        assert family.title in page.headings
        for entry in family.experiments:
            assert entry.id in page.ids
            link = f"notebooks/{entry.id.lower()}-seed-0.html"
            assert link in page.links
            check(report.parent / link)
    assert "What we expected of these experiments" not in text  # of CIFAR-10
    with (report.parent / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == count
    assert {row["status"] for row in rows} == {"completed"}
    assert {row["dataset"] for row in rows} == {"digits"}

    assert main(["run", *command[1:]]) == 0
    assert f"{count} runs planned, {count} complete, 0 to execute" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out" / "runs")  # half a gigabyte for each VGG-16


def test_the_table_of_results_gives_times_of_one_kind_of_machine_only(tmp_path):
    run = write_run(tmp_path, "EXP003", 0.73)
    other = write_run(tmp_path, "EXP004", 0.74)
    environment = run.environment
    assert environment == other.environment
    for cost, shown in ((0.0190123, "0.019"), (0.0004, "&lt;0.001"), (None, "–")):
        write_record(run_folder(tmp_path, "EXP003", 0), run.model_copy(update={"training_pflop": cost}))
        assert f">{shown}<small>10 min</small></td>" in sections.results_at_a_glance(Journal(tmp_path)).html
    elsewhere = environment.model_copy(update={"device_name": "another processor"})
    write_record(run_folder(tmp_path, "EXP004", 0), other.model_copy(update={"environment": elsewhere}))
    assert "10 min" not in sections.results_at_a_glance(Journal(tmp_path)).html
