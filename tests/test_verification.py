"""Records that outlive a change of the code: `make verify-code`, and what the journal says of other code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from records import write_run

from cifar_report.execution.plan import make_plan
from cifar_report.journal.journal import Journal
from cifar_report.records.key import key_facts, run_key
from cifar_report.records.record import KeyFacts, read_record, run_folder, write_record
from cifar_report.records.verified import (
    VERIFIED,
    Verification,
    is_of_this_code,
    read_verification,
)
from cifar_report.report.sections import banner
from maintenance.verify_code import write_verification

ROOT = Path(__file__).parent.parent
OLD = KeyFacts(notebook="0" * 64, library="1" * 64, data="ab" * 32, weights=None)


@pytest.fixture
def recorded(tmp_path):
    """A function that leaves a record made by other code, and says what its run is today."""

    def write(seed=0, facts=OLD):
        record = write_run(tmp_path, "EXP003", seed=seed).model_copy(update={"key": f"{seed:064}", "key_facts": facts})
        folder = run_folder(tmp_path, "EXP003", seed)
        write_record(folder, record)
        (run,) = make_plan(["EXP003"], profile="full", seeds=[seed], output_dir=tmp_path, read_only=True)
        facts = key_facts(run.parameters, run.family.notebook_path, OLD.data, None)
        return folder, record, run, facts

    return write


def note(folder, record, run, facts):
    verification = Verification(
        recorded_key=record.key,
        recorded_commit="c" * 40,
        recorded_facts=record.key_facts,
        key=run_key(run.parameters, facts),
        commit="d" * 40,
        facts=facts,
        shortened={"epochs": 2},
        device_name="A Processor",
        torch="2.11.0",
        verified_at="2026-01-02T03:04:05+00:00",
    )
    write_verification(folder, verification)


def test_a_verified_record_is_of_this_code_and_no_other_record_is(recorded):
    folder, record, run, facts = recorded()
    assert not is_of_this_code(folder, record)
    note(folder, record, run, facts)
    assert is_of_this_code(folder, record)
    assert not is_of_this_code(folder, record.model_copy(update={"key": "2" * 64}))  # trained again since
    (folder / VERIFIED).write_text("{")
    assert read_verification(folder, record) is None
    assert not is_of_this_code(folder, record)


def test_the_code_alone_is_verified(recorded):
    folder, record, run, facts = recorded()
    note(folder, record, run, facts)
    other = record.model_copy(update={"parameters": record.parameters | {"lr": 0.5}})
    assert not is_of_this_code(folder, other)


def text(tmp_path):
    return " ".join(banner(Journal(tmp_path), "full").html.split())


def test_the_report_names_runs_of_other_code_and_seeds_of_different_code(recorded, tmp_path):
    first, second = recorded(0), recorded(1)
    assert "Trained by another version of the code</strong>" in text(tmp_path)
    assert "EXP003 seeds 0, 1." in text(tmp_path)
    assert "Seeds trained by different versions" not in text(tmp_path)
    note(*first)
    assert "EXP003 seed 1." in text(tmp_path)
    assert "Seeds trained by different versions of the code</strong> are pooled in EXP003" in text(tmp_path)
    for seed in (0, 1, 2):
        write_run(tmp_path, "EXP001", seed=seed)
    caveat = Journal(tmp_path).comparisons["EXP003"].caveat
    assert caveat == "the seeds of EXP003 were trained by different code"
    note(*second)
    assert "not verified to give the same result with this one: EXP001 seeds 0-2." in text(tmp_path)
    assert "Seeds trained by different versions" not in text(tmp_path)


def test_local_weights_are_named(tmp_path):
    record = write_run(tmp_path, "EXP011")
    assert "local file" not in text(tmp_path)
    weights = record.weights.model_copy(update={"source": "local file", "provenance": "local file"})
    write_record(run_folder(tmp_path, "EXP011", 0), record.model_copy(update={"weights": weights}))
    assert "ImageNet weights from a local file</strong>, not torchvision's download: EXP011." in text(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_code_is_verified_against_the_recorded_commit(tmp_path):
    clone, out = tmp_path / "clone", tmp_path / "out"
    clone.mkdir()
    for name in ("cifar_report", "maintenance", "notebooks", "params"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    (clone / ".gitignore").write_text("__pycache__\n")

    def git(*words):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", clone, *identity, *words], check=True, capture_output=True)

    def command(word):
        sets = ["--set", "dataset=digits train_limit=200 test_limit=60 epochs=3"]
        program = [str(clone / "maintenance" / "verify_code.py")] if word == "verify" else ["-m", "cifar_report", word]
        given = [sys.executable, "-P", *program, "EXP000", "--profile", "full", "--seeds", "0,1", *sets]
        environment = os.environ | {"PYTHONPATH": str(clone)}
        done = subprocess.run(
            [*given, "--output", out], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
        )
        return done.returncode, done.stdout + done.stderr

    def edit(before, after):
        path = clone / "cifar_report" / "training" / "models" / "net.py"
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert command("run")[0] == 0
    assert command("verify") == (0, "2 of 2 records are of today's code or agree with it\n")

    edit("x = self.fc1(x.flatten(1)).relu()", "hidden = self.fc1(x.flatten(1))\n        x = hidden.relu()")
    assert "EXP000 seed 0: stale: the library's code changed" in command("status")[1]
    code, said = command("verify")
    assert (code, said) == (2, "verify_code: commit your changes first: what is verified names a commit\n")
    git("commit", "-qam", "the same, written in two lines")
    code, said = command("verify")
    assert code == 0, said
    assert "EXP000 seed 0: today's code gives the same weights and predictions, to the last bit" in said
    assert (
        "EXP000 seed 1: today's code gives the same weights and predictions, to the last bit, tried with seed 0" in said
    )
    assert "EXP000 seed 0: complete\nEXP000 seed 1: complete" in command("status")[1]
    for seed in (0, 1):
        record = read_record(run_folder(out, "EXP000", seed))
        verification = read_verification(run_folder(out, "EXP000", seed), record)
        assert verification.recorded_commit == record.environment.git_commit != verification.commit
        assert verification.shortened == {"seed": 0, "train_limit": 200, "test_limit": 60, "epochs": 2}

    edit("x = hidden.relu()", "x = hidden.tanh()")
    git("commit", "-qam", "another activation")
    code, said = command("verify")
    assert code == 1
    assert "today's code gives other bits than commit" in said
    assert "EXP000 seed 0: stale: the library's code changed" in command("status")[1]
    listed = subprocess.run(["git", "-C", clone, "worktree", "list"], capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1
