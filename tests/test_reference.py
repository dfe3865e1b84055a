"""The records that the documentation speaks of are what it says they are."""

import re
from pathlib import Path

import numpy as np
import pytest

from cifar_report.experiments.catalog import load_catalog
from cifar_report.journal.journal import Journal
from cifar_report.journal.learning_curves import jitter
from cifar_report.journal.statements import findings
from cifar_report.records.record import read_record

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


FULL_BUDGET = ["EXP000", "EXP001", *(f"EXP{n:03}" for n in range(3, 11))]


@pytest.fixture(scope="module")
def journal():
    return Journal.load(REFERENCE)


def test_the_small_networks_did_the_originals_work(journal):
    assert [name for name, result in journal.complete.items() if result.full_budget] == FULL_BUDGET


def test_readme_states_what_is_on_record(journal):
    text = (REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8")
    for name in FULL_BUDGET:
        result, found = journal.results[name], journal.reproduction(name)
        low, high = (100 * end for end in result.interval)
        least, most = (100 * end for end in found.interval)
        row = (
            f"| {name}, {result.entry.title} | {100 * result.accuracy:.2f} ({low:.2f}-{high:.2f}), n = "
            f"{len(result.runs)} | {result.entry.reference_accuracy:.2f} | {least:.1f}-{most:.1f} | {found.word} |"
        )
        assert row in text, row


def test_readme_says_how_much_is_on_record(journal):
    text = " ".join((REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8").split())
    originals = [name for name, entry in load_catalog().entries.items() if entry.reference_accuracy]
    rest = len(originals) - len(FULL_BUDGET)
    assert (len(originals), len(FULL_BUDGET), rest) == (21, 10, 11)
    assert (
        "All 21 experiments are implemented. Ten are on record at the original's full budget, each with three" in text
    )
    assert "the other eleven start from ImageNet weights or train EfficientNet-B0" in text
    assert min(len(journal.results[name].runs) for name in FULL_BUDGET) >= 3


def test_readmes_python_runs(journal, monkeypatch):
    monkeypatch.chdir(REFERENCE.parent.parent)
    text = Path("README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    table = scope["journal"].runs.groupby("experiment").accuracy.agg(["mean", "std", "count"])
    for name, row in table.iterrows():
        accuracies = [100 * a for a in journal.results[name].accuracies]
        assert (row["mean"], row["std"], row["count"]) == pytest.approx(
            (np.mean(accuracies), np.std(accuracies, ddof=1), len(accuracies))
        )
    assert len(scope["journal"].epochs) == 20 * len(scope["journal"].runs)


def test_readme_says_what_three_seeds_showed(journal):
    text = " ".join((REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8").split())
    first = [run.test.accuracy for run in journal.results["EXP000"].runs if run.seed < 3]
    stated = f"gave {100 * np.mean(first):.2f} % with a spread of {100 * np.std(first, ddof=1):.2f} points"
    assert stated in text
    every = journal.results["EXP000"].accuracies
    assert (len(every), np.mean(every) < 0.63, np.std(every, ddof=1) > 0.008) == (10, True, True)


def test_readme_counts_the_statements_that_are_decided(journal):
    text = " ".join((REFERENCE.parent.parent / "README.md").read_text(encoding="utf-8").split())
    answers = [finding.answer for finding in findings(journal)]
    counts = {answer: answers.count(answer) for answer in answers}
    stated = (
        f"Of {len(answers)} statements of the original, {counts['holds']} hold, {counts['does not hold']} do not, "
        f"{counts['open']} are open and {counts['cannot be tested']} cannot be tested"
    )
    assert stated in text, stated


def test_notebooks_claim_what_is_on_record(journal):
    accuracy = {name: journal.results[name].accuracy for name in FULL_BUDGET}
    assert 0.61 <= accuracy["EXP000"] <= 0.67
    assert accuracy["EXP001"] - accuracy["EXP000"] > 0.05  # "several points"
    for family in (["EXP003", "EXP004", "EXP005", "EXP006"], ["EXP007", "EXP008", "EXP009", "EXP010"]):
        assert np.ptp([accuracy[name] for name in family]) < 0.025  # "about two points"
    restless = {name: jitter(journal.results[name].runs[0].epochs) for name in ("EXP007", "EXP008", "EXP009", "EXP010")}
    assert max(restless, key=lambda name: restless[name]) == "EXP008"
