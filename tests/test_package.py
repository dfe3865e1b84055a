"""What `import cifar_report` gives."""

import os
import subprocess
import sys

import pytest
from size import lines_of_code

import cifar_report
from cifar_report.journal.journal import Journal as JournalItself
from cifar_report.run import Run as RunItself


def test_the_package_offers_run_and_journal():
    from cifar_report import Journal, Run

    assert (Run, Journal) == (RunItself, JournalItself)
    assert sorted(cifar_report.__all__) == ["Journal", "Run"]
    assert {"Journal", "Run", "__version__"} <= set(dir(cifar_report))
    with pytest.raises(AttributeError, match="'cifar_report' has no attribute 'Runn'"):
        cifar_report.Runn  # noqa: B018
    with pytest.raises(ImportError):
        from cifar_report import Runn  # noqa: F401


@pytest.mark.parametrize(
    ("statement", "imported"), [("import cifar_report", False), ("from cifar_report import Run", True)]
)
def test_torch_is_imported_with_run_only(statement, imported):
    code = f"import sys; {statement}; print([name for name in ('torch', 'pandas') if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert ("torch" in printed) == imported


def test_the_name_run_stays_the_module_for_those_who_import_it():
    import cifar_report.run

    assert cifar_report.run.Run is cifar_report.Run


@pytest.mark.parametrize(
    ("set_by_user", "expected"), [({}, "passive 1000"), ({"OMP_WAIT_POLICY": "active"}, "active None")]
)
def test_waiting_threads_give_up_their_core_unless_the_user_says_otherwise(set_by_user, expected):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names} | set_by_user
    code = f"import os, cifar_report; print(*map(os.environ.get, {names}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_size_counts_the_lines_that_hold_code():
    source = '"""A module,\n\nexplained."""\n\nX = """a\nb"""  # two lines\n\n\n'
    source += 'def f():\n    """It."""\n    # why\n    g(\n        1\n    )\n'
    assert lines_of_code(source) == 6
