"""README and docs: every link leads somewhere, every command in them exists."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cifar_report import __version__
from cifar_report.cli import app
from cifar_report.experiments.catalog import load_catalog, read_yaml
from cifar_report.journal.measures import MEASURES
from cifar_report.records.record import read_record

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [page for page in PAGES if page.name != "index.md"]  # the home page is of the site, which checks its links


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    known = get_command(app).commands  # type: ignore[attr-defined]
    for name, words in re.findall(r"cifar-report ([a-z]+)((?: --?[a-z-]+(?:[ =][\w.,/=]+)?)*)", text):
        assert name in known, name
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= options, (name, words)
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    for name in re.findall(r"`make ([a-z-]+)", text):
        assert name in targets, name


def test_workflows_pin_what_they_use_by_commit():
    workflows = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert len(workflows) > 2
    for workflow in workflows:
        used = re.findall(r"uses: (\S+)", workflow.read_text(encoding="utf-8"))
        assert used
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)


def test_the_citation_is_of_this_version():
    cited = read_yaml(ROOT / "CITATION.cff")
    assert cited["version"] == __version__
    assert load_catalog().repository in cited["repository-code"]


@pytest.mark.slow
def test_the_examples_of_the_python_page_run(tmp_path, monkeypatch):
    """On digits, in a folder that has the committed records."""
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "reference").symlink_to(ROOT / "outputs" / "reference")
    monkeypatch.chdir(tmp_path)
    small = '"lr": 0.02, "dataset": "digits", "train_limit": 64, "test_limit": 30, "epochs": 1'
    assert '"lr": 0.02' in example
    exec(example.replace('"lr": 0.02', small), {})
    record = read_record(tmp_path / "outputs" / "notebook" / "runs" / "mine1" / "seed-0")
    assert record is not None
    assert (record.status, record.parameters["lr"]) == ("completed", 0.02)


def test_every_measure_is_named_where_statements_are_explained():
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert [name for name in MEASURES if name not in text] == []
