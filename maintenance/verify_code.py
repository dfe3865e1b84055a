"""Does today's code give the bits of the committed records? `make verify-code ONLY=EXP003 SEEDS=0,1,2`.

A record's key names the code that made it. After a change of that code which should leave the bits alone, this trains
each record's run twice on this machine, shortened: with the recorded commit's code and with today's. Where weights and
predictions agree, `verified.json` beside the record says so, and the record counts as complete. Of records that differ
in nothing but their seed, one is trained: the code does not depend on it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from safetensors.numpy import load_file

from cifar_report import cli
from cifar_report.execution.plan import PlannedRun
from cifar_report.execution.resources import THREAD_VARIABLES
from cifar_report.execution.verify import same_predictions
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import shown
from cifar_report.experiments.sweep import split_sweep_name
from cifar_report.records.backup import BACKUP
from cifar_report.records.files import RECORD, WEIGHTS, write_text
from cifar_report.records.key import key_parameters, stale_because
from cifar_report.records.record import RunRecord, now, read_record
from cifar_report.records.verified import VERIFIED, Verification, read_verification, valid_keys
from cifar_report.training.environment import git_state

CLONE = Path(__file__).resolve().parents[1]
SHORTENED = {"train_limit": 3200, "test_limit": 1000, "epochs": 2}  # at most; everything else as recorded
FOLDERS = ("CIFAR_REPORT_DATA", "CIFAR_REPORT_WEIGHTS")  # environment variables
CODE = {"notebook", "library"}
SAME = "today's code gives the same weights and predictions, to the last bit"


def write_verification(folder: Path, verification: Verification) -> None:
    """Note it beside the record."""
    write_text(folder / VERIFIED, verification.model_dump_json(indent=1) + "\n")


def verify_code(plan: Sequence[PlannedRun], *, say: Callable[[str], None] = print) -> bool:
    """Compare today's code with the code that made the plan's records; whether all are of it or agree with it.

    Raises:
        RequestError: the library does not run from a git clone, the clone has uncommitted changes, or no run of the
            plan has a record.
    """
    commit = _commit()
    agreed = []
    others: dict[str, Verification] = {}  # by what a record and another seed's have in common
    for run in plan:
        record = read_record(run.folder)
        if record is None or record.status != "completed":
            continue
        if run.key in valid_keys(run.folder, record):
            agreed.append(True)
            continue
        common = repr((key_parameters(record.parameters | {"seed": 0}), record.key_facts))
        if (known := others.get(common)) and record.environment and record.environment.git_commit:
            of = {"recorded_key": record.key, "key": run.key}
            known = known.model_copy(update={**of, "recorded_commit": record.environment.git_commit})
            write_verification(run.folder, known)
            agreed.append(True)
            say(f"{run.name}: {SAME}, tried with seed {known.shortened['seed']}")
            continue
        problem = _compare_code(run, record, commit)
        agreed.append(not problem)
        say(f"{run.name}: {problem or SAME}")
        if not problem and (verified := read_verification(run.folder, record)):
            others[common] = verified
    if not agreed:
        raise RequestError("none of these runs has a record: nothing to verify")
    say(f"{sum(agreed)} of {len(agreed)} records are of today's code or agree with it")
    return all(agreed)


def _commit() -> str:
    commit, dirty = git_state()
    if commit is None:
        raise RequestError("verifying code requires a git clone: it reads the code of recorded commits from there")
    if dirty:
        raise RequestError("commit your changes first: what is verified names a commit")
    return commit


def _compare_code(run: PlannedRun, record: RunRecord, commit: str) -> str:
    """Train with both codes, shortened, and note that they agree. Returns why not; an empty text if they agree."""
    facts, environment = record.key_facts, record.environment
    if facts is None:
        return "not verified: the record does not say which code, data and weights it is of"
    if environment is None or environment.git_commit is None or environment.git_dirty:
        return "not verified: the record names no commit, or one with uncommitted changes"
    recorded_commit, threads = environment.git_commit, environment.threads
    if _git("cat-file", "-e", f"{recorded_commit}^{{commit}}"):
        return f"not verified: its commit {recorded_commit[:8]} is not in this clone"
    changed = stale_because(record, run.parameters, run.facts.model_copy(update=facts.model_dump(include=CODE)))
    if changed:
        return f"not verified: {'; '.join(changed)}"
    as_recorded = json.loads((run.folder / RECORD).read_bytes())["parameters"]  # in the words of that version
    with tempfile.TemporaryDirectory(prefix="cifar-report-verify-") as temporary:
        folder = Path(temporary)
        try:
            with _worktree(recorded_commit, folder / "code") as code:
                old, _ = _shortened_run(run, as_recorded, code, recorded_commit, folder / "before", threads)
            new, made = _shortened_run(
                run, run.parameters.result_parameters(), CLONE, commit, folder / "after", threads
            )
        except NotComparableError as error:
            return f"not verified: {error}"
        if not _same_weights(old, new) or not same_predictions(old, new):
            return f"today's code gives other bits than commit {recorded_commit[:8]}; the record is stale"
        assert made.environment is not None  # of a completed run
        verification = Verification(
            recorded_key=record.key or "",
            recorded_commit=recorded_commit,
            recorded_facts=facts,
            key=run.key,
            commit=commit,
            facts=run.facts,
            shortened=_shortened(run),
            device_name=made.environment.device_name,
            torch=made.environment.torch,
            verified_at=now(),
        )
        write_verification(run.folder, verification)
    return ""


class NotComparableError(RuntimeError):
    """A shortened run failed, or was not of the commit that it should be of."""


def _shortened(run: PlannedRun) -> dict[str, int]:
    short = {name: min(most, getattr(run.parameters, name) or most) for name, most in SHORTENED.items()}
    return {"seed": run.parameters.seed, **short}


def _shortened_run(
    run: PlannedRun, parameters: Mapping[str, Any], code: Path, commit: str, output: Path, threads: int
) -> tuple[Path, RunRecord]:
    """Execute a run with the code in a folder; return its folder and record."""
    e = run.parameters
    given = {n: value for n, value in (parameters | _shortened(run)).items() if n not in ("experiment", "seed")}
    places = {name: Path(path).resolve() for name in ("data_dir", "weights_dir") if (path := getattr(e, name))}
    words = [sys.executable, "-P", "-m", "cifar_report", "run", split_sweep_name(e.experiment)[0]]
    words += ["--profile", "full", "--seeds", str(e.seed), "--output", str(output)]
    for name, value in {**given, **places, "device": e.device}.items():
        words += ["--set", f"{name}={shown(value).replace(', ', ',')}"]
    variables = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    variables |= {name: str(Path(path).resolve()) for name in FOLDERS if (path := os.environ.get(name))}
    variables["PYTHONPATH"] = str(code)
    variables.pop(BACKUP, None)
    output.mkdir()
    done = subprocess.run(words, cwd=output, env=variables, capture_output=True, text=True)
    folder = next(output.glob("runs/*/*"), output)
    record = read_record(folder)
    if record is None or record.status != "completed":
        printed = (done.stderr or done.stdout or "no output").strip().splitlines()
        raise NotComparableError(f"the run with commit {commit[:8]} failed: {printed[-1]}")
    used = record.environment and record.environment.git_commit
    if used != commit:
        raise NotComparableError(f"the run should be of commit {commit[:8]}, but is of {str(used)[:8]}")
    return folder, record


@contextmanager
def _worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit in a folder of their own."""
    if problem := _git("worktree", "add", "--detach", str(folder), commit):
        raise RequestError(f"git cannot check out commit {commit[:8]}: {problem}")
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> str:
    """The error message of a git command; an empty text if there is none."""
    done = subprocess.run(["git", "-C", str(CLONE), *arguments], capture_output=True, text=True)
    return done.stderr.strip() or "git failed" if done.returncode else ""


def _same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / WEIGHTS) for folder in (first, second))
    return a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() and a[n].shape == b[n].shape for n in a)


def main(
    experiments: cli.Names = None,
    profile: cli.Profile = None,
    seeds: cli.Seeds = None,
    output: cli.Output = None,
    sets: cli.Sets = None,
) -> None:
    """Compare today's code with that of the recorded commits, in shortened runs."""
    try:
        agreed = verify_code(cli.requested(experiments, profile, seeds, output, sets).plan())
    except RequestError as error:
        print(f"verify_code: {error}", file=sys.stderr)
        raise typer.Exit(cli.REQUEST_WRONG) from None
    raise typer.Exit(cli.DONE if agreed else cli.RUN_FAILED)


if __name__ == "__main__":
    typer.run(main)
