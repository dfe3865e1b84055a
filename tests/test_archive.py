"""`make archive`: one file from which the report can be written again."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import archive
import pytest
from records import write_run

from cifar_report.cli import main

pytestmark = pytest.mark.skipif(not (archive.ROOT / ".git").exists(), reason="only a git clone can be packed")


def pack(output, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["archive.py", str(output)])
    return archive.main()


@pytest.mark.slow
def test_the_report_can_be_written_again_from_the_archive_alone(tmp_path, monkeypatch, no_pdf, capsys):
    output = tmp_path / "mine"
    for seed in (0, 1):
        write_run(output, "EXP003", 0.74 + seed / 100, seed=seed)
    left_behind = [output / "runs" / "exp003" / "seed-0" / name for name in ("model.safetensors", ".worker.log")]
    for path in left_behind:
        path.write_bytes(b"-")
    assert main(["report", "--no-run", "--output", str(output)]) == 0
    assert pack(output, monkeypatch) == 0
    assert "cifar-report-mine.zip" in capsys.readouterr().out
    with ZipFile(tmp_path / "cifar-report-mine.zip") as packed:
        packed.extractall(tmp_path / "elsewhere")
        assert {entry.external_attr >> 16 for entry in packed.infolist()} == {0o644}
    (clone,) = (tmp_path / "elsewhere").iterdir()
    assert not [path for path in clone.rglob("*") if path.name in {left.name for left in left_behind}]
    assert [path.name for path in (clone / "outputs").iterdir()] == ["mine"]
    assert f"torch=={version('torch')}" in (clone / "environment.txt").read_text().split()
    again = clone / "outputs" / "mine" / "report"
    table = (again / "results.csv").read_bytes()
    assert table == (output / "report" / "results.csv").read_bytes()
    for path in (again / "results.csv", again / "report.html"):
        path.unlink()
    words = next(line for line in (clone / "ARCHIVE.md").read_text().splitlines() if "bin/cifar-report" in line).split()
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    done = subprocess.run(
        [sys.executable, "-m", "cifar_report", *words[1:]], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (again / "results.csv").read_bytes() == table
    assert "EXP003" in (again / "report.html").read_text()


def test_what_one_added_is_packed_and_what_lies_about_is_not(tmp_path, monkeypatch):
    clone, output = tmp_path / "clone", tmp_path / "clone" / "outputs" / "mine"
    (clone / "params").mkdir(parents=True)
    output.mkdir(parents=True)
    for name in ("params/exp001.yaml", ".gitignore", "README.md"):
        (clone / name).write_text("**/outputs/*\n")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", str(clone), *words], check=True)
    monkeypatch.setattr(archive, "ROOT", clone)
    assert ", with changes" not in dict(archive.contents(output))["ARCHIVE.md"].decode()
    for name in ("params/exp100.yaml", "password.txt", "outputs/mine/run.json", "outputs/other.json"):
        (clone / name).touch()
    found = dict(archive.contents(output))
    generated = {"environment.txt", "ARCHIVE.md"}
    kept = {"params/exp001.yaml", ".gitignore", "README.md", "params/exp100.yaml", "outputs/mine/run.json"}
    assert found.keys() == kept | generated
    assert ", with changes" in found["ARCHIVE.md"].decode()


def test_what_cannot_be_packed_is_said(tmp_path, monkeypatch, capsys):
    assert pack(tmp_path, monkeypatch) == 2
    assert "holds no report: `make report` writes one" in capsys.readouterr().err
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").touch()
    monkeypatch.setattr(archive, "ROOT", Path("/"))
    assert pack(tmp_path, monkeypatch) == 2
    assert "only a git clone can be packed" in capsys.readouterr().err
    assert not list(tmp_path.parent.glob(f"*{tmp_path.name}*.zip"))
