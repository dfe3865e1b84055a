"""The records that the documentation speaks of are what it says they are."""

import re
from pathlib import Path

import numpy as np
import pytest

from cifar_report.experiments.catalog import load_catalog
from cifar_report.journal.journal import Journal
from cifar_report.journal.statements import findings
from cifar_report.records.record import read_record
from cifar_report.report.sections import abstract
from maintenance.write_findings import LADDER

REFERENCE = Path(__file__).parent.parent / "outputs" / "reference"
FOLDERS = sorted(path.parent for path in REFERENCE.glob("**/run.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(REFERENCE)))
def test_record_and_predictions_agree(folder):
    record = read_record(folder)
    assert record is not None
    assert record.status == "completed"
    assert record.test is not None
    assert record.environment is not None
    assert record.environment.git_commit
    assert record.environment.git_dirty is False
    with np.load(folder / "predictions.npz") as stored:
        assert (stored["predicted"] == stored["labels"]).sum() == record.test.correct
        assert len(stored["labels"]) == record.test.total


SEVERAL = ["EXP000", "EXP001", *(f"EXP{n:03}" for n in range(3, 11))]  # three seeds of each at least
SINGLE = ["EXP002", "EXP011", "EXP011B", "EXP013", "EXP014", "EXP014B"]  # one seed of each
OURS = [*(f"EXP{n:03}" for n in range(21, 31)), "EXP040"]  # beyond the original
ON_RECORD = sorted(SEVERAL + SINGLE + OURS)


@pytest.fixture(scope="module")
def journal():
    return Journal(REFERENCE)


def test_all_runs_did_the_originals_work(journal):
    assert [name for name, result in journal.complete.items() if result.full_budget] == ON_RECORD
    assert list(journal.complete) == ON_RECORD


def test_readme_states_what_is_on_record(journal):
    text = (REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8")
    for row in readme_rows(journal):
        assert row in text, row


def readme_rows(journal) -> list[str]:
    rows = []
    for name in sorted(SEVERAL + SINGLE):
        result, found = journal.results[name], journal.reproduction(name)
        low, high = (100 * end for end in result.interval)
        expected, word, original = "–", found.word if found else "–", result.entry.reference_accuracy
        if found and found.interval:
            expected = "-".join(f"{100 * end:.1f}" for end in found.interval)
        rows.append(
            f"| {name}, {result.entry.title} | {100 * result.accuracy:.2f} ({low:.2f}-{high:.2f}), n = "
            f"{len(result.runs)} | {f'{original:.2f}' if original else '–'} | {expected} | {word} |"
        )
    return rows


def test_readme_states_what_is_on_record_beyond_the_original(journal):
    text = (REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8")
    for row in our_rows(journal):
        assert row in text, row


def our_rows(journal) -> list[str]:
    rows = []
    for name in LADDER:
        result = journal.results[name]
        low, high = (100 * end for end in result.interval)
        cost = result.runs[0].training_pflop
        accuracy = f"{100 * result.accuracy:.2f} ({low:.2f}-{high:.2f}), n = {len(result.runs)}"
        rows.append(f"| {name}, {result.entry.title} | {accuracy} | {cost:.3f} |")
    return rows


def test_readme_says_how_much_is_on_record(journal):
    text = " ".join((REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8").split())
    originals = [name for name, entry in load_catalog().entries.items() if entry.reference_accuracy]
    on_record = [name for name in originals if name in journal.complete]
    assert (len(originals), len(SEVERAL), len(on_record)) == (21, 10, 14)
    assert "All 21 experiments are implemented. Fourteen are on record at the original's full budget" in text
    assert min(len(journal.results[name].runs) for name in SEVERAL) >= 3
    assert {len(journal.results[name].runs) for name in SINGLE} == {1}


def test_the_guides_python_runs(journal, monkeypatch):
    monkeypatch.chdir(REFERENCE.parent.parent)
    text = Path("docs/guide.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    table = scope["journal"].runs.groupby("experiment").accuracy.agg(["mean", "std", "count"])
    for name, row in table.iterrows():
        accuracies = [100 * a for a in journal.results[name].accuracies]
        assert (row["mean"], row["count"]) == pytest.approx((np.mean(accuracies), len(accuracies)))
        if len(accuracies) > 1:
            assert row["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert len(scope["journal"].epochs) == sum(len(run.epochs) for r in journal.complete.values() for run in r.runs)


def test_readme_says_what_three_seeds_showed(journal):
    text = " ".join((REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8").split())
    first = [run.test.accuracy for run in journal.results["EXP000"].runs if run.seed < 3]
    stated = f"gave {100 * np.mean(first):.2f} % with a spread of {100 * np.std(first, ddof=1):.2f} points"
    assert stated in text
    every = journal.results["EXP000"].accuracies
    assert (len(every), np.mean(every) < 0.63, np.std(every, ddof=1) > 0.008) == (10, True, True)


def test_readme_counts_the_statements_that_are_decided(journal):
    text = " ".join((REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8").split())
    answers = [finding.answer for finding in findings(journal) if not finding.statement.ours]
    counts = {answer: answers.count(answer) for answer in answers}
    stated = (
        f"Of {len(answers)} statements of the original, {counts['holds']} hold, {counts['does not hold']} do not, "
        f"{counts['open']} are open and {counts['cannot be tested']} cannot be tested"
    )
    assert stated in text, stated


def test_the_abstract_judges_what_has_a_spread(journal):
    text = abstract(journal).html
    assert "10 of 10 of its figures at full budget lie where one new run of ours is expected." in text
    assert "Not judged, for want of a known spread: EXP002, EXP011, EXP013 and EXP014." in text
