"""The records that the documentation speaks of are what it says they are."""

from pathlib import Path

import numpy as np
import pytest

from cifar_report.record import read_record

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


@pytest.mark.parametrize(
    ("experiment", "low", "high"), [("exp000", 0.61, 0.67), *((f"exp00{n}", 0.735, 0.775) for n in (3, 4, 5, 6, 9))]
)
def test_full_budget_lies_where_the_notebooks_claim(experiment, low, high):
    record = read_record(REFERENCE / "cpu" / "runs" / experiment / "seed-0")
    assert record is not None
    assert record.data is not None
    assert record.test is not None
    assert (record.data.name, record.data.train_size, record.test.total) == ("cifar10", 50_000, 10_000)
    assert len(record.epochs) == 20
    assert low <= record.test.accuracy <= high
