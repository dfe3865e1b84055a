"""The findings are what the committed records say."""

from cifar_report import Journal
from maintenance.write_findings import FINDINGS, ROOT, page


def test_findings_are_what_the_records_say():
    assert FINDINGS.read_text(encoding="utf-8") == page(Journal(ROOT / "outputs" / "reference"))
