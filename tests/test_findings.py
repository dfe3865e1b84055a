"""The findings are what the committed records say."""

import numpy as np
import pytest
from scipy import stats

from cifar_report import Journal
from maintenance.write_findings import ABOUT, FINDINGS, GRID, NOTE, ROOT, bartlett, page


def test_findings_are_what_the_records_say():
    assert FINDINGS.read_text(encoding="utf-8") == page(Journal(ROOT / "outputs" / "reference"))
    assert NOTE.read_text(encoding="utf-8") == ABOUT


def test_bartletts_test_is_scipys_where_a_group_is_one_sample():
    rng = np.random.default_rng(0)
    samples = [rng.normal(0, 1 + size, 5 + size).tolist() for size in range(3)]
    expected = stats.bartlett(*samples).pvalue
    assert bartlett([[sample] for sample in samples]) == pytest.approx(expected)
    a, b, c = samples
    apart = [[a, [value + 9 for value in b]], [c]]
    assert bartlett(apart) == pytest.approx(bartlett([[a, b], [c]]))  # about each sample's own mean
    assert bartlett([[a], [b], [c, [3.0]]]) == pytest.approx(expected)  # one run is no spread


def test_the_grid_has_every_optimizer_with_every_initialization():
    journal = Journal(ROOT / "outputs" / "reference", [name for row in GRID.values() for name in row])
    init = {name: result.runs[0].parameters["init"] for name, result in journal.complete.items()}
    assert len({tuple(map(init.get, row)) for row in GRID.values()}) == 1  # the same in each row
    optimizer = {name: result.runs[0].parameters["optimizer"] for name, result in journal.complete.items()}
    assert [{optimizer[name] for name in row} for row in GRID.values()] == [{word.lower()} for word in GRID]
