"""The findings are what the committed records say."""

import numpy as np
import pytest
from scipy import stats

from cifar_report import Journal
from cifar_report.experiments.catalog import load_catalog
from cifar_report.journal.statistics import Spread
from maintenance.write_findings import ABOUT, FINDINGS, GRID, NOTE, ROOT, answers, bartlett, page, with_answers


def test_findings_are_what_the_records_say():
    journal = Journal(ROOT / "outputs" / "reference")
    assert FINDINGS.read_text(encoding="utf-8") == page(journal)
    assert NOTE.read_text(encoding="utf-8") == ABOUT
    for family in load_catalog().families:  # its notebook ends with them
        notebook = family.notebook_path.read_text(encoding="utf-8")
        assert with_answers(notebook, answers(journal, family.name)) == notebook
    assert "Mirroring images helps by itself.* It holds: EXP032 > EXP031" in answers(journal, "single_augmentation")


def test_bartletts_test_is_scipys():
    rng = np.random.default_rng(0)
    samples = [rng.normal(0, 1 + size, 5 + size).tolist() for size in range(3)]
    spreads = [Spread.of({"EXP003": dict(enumerate(sample))}, 0.0) for sample in samples]
    assert bartlett(spreads) == pytest.approx(stats.bartlett(*samples).pvalue)


def test_the_grid_has_every_optimizer_with_every_initialization():
    journal = Journal(ROOT / "outputs" / "reference", [name for row in GRID.values() for name in row])
    init = {name: result.runs[0].parameters["init"] for name, result in journal.complete.items()}
    assert len({tuple(map(init.get, row)) for row in GRID.values()}) == 1  # the same in each row
    optimizer = {name: result.runs[0].parameters["optimizer"] for name, result in journal.complete.items()}
    assert [{optimizer[name] for name in row} for row in GRID.values()] == [{word.lower()} for word in GRID]
