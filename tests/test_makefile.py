"""`make` on a fresh clone, with a Python that only notes what it is asked to install."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = f"""#!/bin/sh
case "$*" in
  maintenance/*) exec "{sys.executable}" "$@" ;;
  "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >> log; sleep 0.5 ;;
  "-m cifar_report"*) printf "[%s]" "$@" > asked ;;
  *"-m pip install"*) echo "pip begins" >> log; sleep 0.5; test ! -e fail || exit 3; echo "pip ends" >> log ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None or sys.platform == "win32", reason="needs make")


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "maintenance").mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "maintenance/one_at_a_time.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(clone, *words):
    command = ["make", *(words or [".venv/.installed"]), "PYTHON=./python"]
    return subprocess.Popen(command, cwd=clone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_an_environment_that_is_linked_keeps_its_interpreter(clone, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "bin").mkdir()
    (other / "bin" / "python").touch()
    (clone / ".venv").symlink_to(other)
    made = subprocess.run(["make", ".venv/.installed", "PYTHON=./python"], cwd=clone, capture_output=True, text=True)
    assert made.returncode != 0
    assert ".venv is a link to another environment: remove it" in made.stderr
    assert (other / "bin" / "python").is_file()
    assert not (clone / "log").exists()


def test_two_that_start_together_install_once(clone):
    both = [make(clone), make(clone)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert (clone / "log").read_text().split("\n") == ["venv", "pip begins", "pip ends", ""]
    assert make(clone).wait(timeout=60) == 0
    assert (clone / "log").read_text().count("venv") == 1
    time.sleep(0.01)
    (clone / "pyproject.toml").touch()  # requires something else
    assert make(clone).wait(timeout=60) == 0
    assert (clone / "log").read_text().count("venv") == 2


def test_make_report_passes_its_words_on(clone):
    words = ["PROFILE=quick", "SEEDS=0,1,2", "ONLY=EXP003 EXP007-EXP010", "SET=epochs=3 lr=0.01", "JOBS=2"]
    assert make(clone, "report", *words, "OUTPUT=my outputs").wait(timeout=60) == 0
    assert (clone / "asked").read_text() == (
        "[-m][cifar_report][report][EXP003][EXP007-EXP010][--profile][quick][--seeds][0,1,2]"
        "[--set][epochs=3 lr=0.01][--jobs][2][--output][my outputs]"
    )
    assert make(clone, "report").wait(timeout=60) == 0
    assert (clone / "asked").read_text() == "[-m][cifar_report][report]"


def test_an_installation_that_fails_is_an_error_and_is_tried_again(clone):
    (clone / "fail").touch()
    assert make(clone).wait(timeout=60) != 0
    assert not (clone / ".venv" / ".installed").exists()
    (clone / "fail").unlink()
    assert make(clone).wait(timeout=60) == 0


def test_the_locked_versions_take_the_place_of_the_others(clone):
    assert make(clone).wait(timeout=60) == 0
    assert make(clone, ".venv/.installed-locked", "LOCKED=1").wait(timeout=60) == 0
    assert not (clone / ".venv" / ".installed").exists()
    assert (clone / "log").read_text().count("pip ends") == 3  # packages, then the clone
