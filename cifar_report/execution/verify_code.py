"""Does today's code give what a recorded commit's code gives? Then records of that commit stay complete."""

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

from safetensors.numpy import load_file

from cifar_report.execution.plan import PlannedRun
from cifar_report.execution.resources import THREAD_VARIABLES
from cifar_report.execution.verify import same_predictions
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import shown
from cifar_report.records.backup import BACKUP
from cifar_report.records.key import stale_because
from cifar_report.records.record import RunRecord, now, read_record
from cifar_report.records.verification import Verification, keys, write_verification
from cifar_report.training.environment import git_state

CLONE = Path(__file__).resolve().parents[2]
SHORTENED = {"train_limit": 3200, "epochs": 2}  # at most; all else as recorded, so that schedules end
FOLDERS = ("CIFAR_REPORT_DATA", "CIFAR_REPORT_WEIGHTS")  # environment variables
CODE = {"notebook", "library"}
SAME = "today's code gives the same weights and predictions, to the last bit"


def verify_code(plan: Sequence[PlannedRun], *, say: Callable[[str], None] = print) -> bool:
    """Compare today's code with the code that made the plan's records, in shortened runs, and note what agrees.

    A record's work is done twice on this machine in one environment, but for `SHORTENED`: by the code of the recorded
    commit and by today's. If weights and predictions agree to the last bit, `verified.json` beside the record says so,
    and the record counts as complete.

    Returns:
        whether all records are of today's code or agree with it.

    Raises:
        RequestError: the library does not run from a git clone, or that has changes which are not committed.
    """
    commit = _commit()
    agreed = []
    for run in plan:
        record = read_record(run.folder)
        if record is None or record.status != "completed":
            continue
        if run.key in keys(run.folder, record):
            agreed.append(True)
            continue
        problem = _cannot_be_compared(run, record) or _compare_code(run, record, commit)
        agreed.append(not problem)
        say(f"{run.name}: {problem or SAME}")
    if not agreed:
        raise RequestError("none of these runs has a record: nothing to verify")
    say(f"{sum(agreed)} of {len(agreed)} records are of today's code or agree with it")
    return all(agreed)


def _commit() -> str:
    commit, dirty = git_state()
    if commit is None:
        raise RequestError("the code of a recorded commit can be had from a git clone only, and this is none")
    if dirty:
        raise RequestError("commit your changes first: what is verified names a commit")
    return commit


def _cannot_be_compared(run: PlannedRun, record: RunRecord) -> str:
    """Why a record's code cannot be compared with today's; an empty text if it can."""
    environment, facts = record.environment, record.key_facts
    if facts is None:
        return "not verified: the record does not say which code, data and weights it is of"
    if environment is None or environment.git_commit is None or environment.git_dirty:
        return "its code cannot be had again: the record names no commit, or one with changes"
    if _git("cat-file", "-e", f"{environment.git_commit}^{{commit}}"):
        return f"its commit {environment.git_commit[:8]} is not in this clone"
    changed = stale_because(record, run.parameters, run.facts.model_copy(update=facts.model_dump(include=CODE)))
    return f"not verified: {'; '.join(changed)}" if changed else ""


def _compare_code(run: PlannedRun, record: RunRecord, commit: str) -> str:
    """Do a record's work with both codes, shortened; note that they agree, or say how they do not."""
    assert record.environment is not None
    assert record.environment.git_commit is not None
    assert record.key_facts is not None
    recorded = json.loads((run.folder / "run.json").read_bytes())["parameters"]  # in the words of that version
    with tempfile.TemporaryDirectory(prefix="cifar-report-verify-") as temporary:
        folder = Path(temporary)
        with _worktree(record.environment.git_commit, folder / "code") as code:
            before = _shortened_run(run, record, recorded, code, folder / "before")
        after = _shortened_run(run, record, run.parameters.result_parameters(), CLONE, folder / "after")
        for made, wanted in ((before, record.environment.git_commit), (after, commit)):
            if isinstance(made, str):
                return f"not verified: {made}"
            of = made[1].environment and made[1].environment.git_commit
            if of != wanted:
                return f"not verified: commit {wanted[:8]} was to be run, and {str(of)[:8]} was"
        assert not isinstance(before, str)
        assert not isinstance(after, str)
        if not _same_weights(before[0], after[0]) or not same_predictions(before[0], after[0]):
            return f"today's code gives other bits than commit {record.environment.git_commit[:8]}; the record is stale"
        environment = after[1].environment
        assert environment is not None
        write_verification(
            run.folder,
            Verification(
                recorded_key=record.key or "",
                recorded_commit=record.environment.git_commit,
                recorded_facts=record.key_facts,
                key=run.key,
                commit=commit,
                facts=run.facts,
                shortened=_shortened(run),
                device_name=environment.device_name,
                torch=environment.torch,
                verified_at=now(),
            ),
        )
    return ""


def _shortened(run: PlannedRun) -> dict[str, int]:
    return {name: min(most, getattr(run.parameters, name) or most) for name, most in SHORTENED.items()}


def _shortened_run(
    run: PlannedRun, record: RunRecord, parameters: Mapping[str, Any], code: Path, output: Path
) -> tuple[Path, RunRecord] | str:
    """Execute a run by the code in a folder; return its folder and record, or what went wrong."""
    e = run.parameters
    given = {n: value for n, value in parameters.items() if n not in ("experiment", "seed")} | _shortened(run)
    places = {name: Path(path).resolve() for name in ("data_dir", "weights_dir") if (path := getattr(e, name))}
    words = [sys.executable, "-P", "-m", "cifar_report", "run", e.experiment, "--profile", "full"]
    words += ["--seeds", str(e.seed), "--output", str(output)]
    for name, value in {**given, **places, "device": e.device}.items():
        words += ["--set", f"{name}={shown(value).replace(', ', ',')}"]
    assert record.environment is not None
    variables = os.environ | dict.fromkeys(THREAD_VARIABLES, str(record.environment.threads))
    variables |= {name: str(Path(path).resolve()) for name in FOLDERS if (path := os.environ.get(name))}
    variables["PYTHONPATH"] = str(code)
    variables.pop(BACKUP, None)
    output.mkdir()
    done = subprocess.run(words, cwd=output, env=variables, capture_output=True, text=True)
    folder = next(output.glob("runs/*/*"), output)
    made = read_record(folder)
    if made is None or made.status != "completed":
        return f"it failed: {(done.stderr or done.stdout or 'without a word').strip().splitlines()[-1]}"
    return folder, made


@contextmanager
def _worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit in a folder of their own."""
    if problem := _git("worktree", "add", "--detach", str(folder), commit):
        raise RequestError(f"the files of commit {commit[:8]} cannot be had: {problem}")
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> str:
    """What git complains about; an empty text if it does not."""
    done = subprocess.run(["git", "-C", str(CLONE), *arguments], capture_output=True, text=True)
    return done.stderr.strip() or "git failed" if done.returncode else ""


def _same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() and a[n].shape == b[n].shape for n in a)
