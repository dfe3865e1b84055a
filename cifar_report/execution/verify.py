"""Do recorded runs reproduce? Training them again, and comparing the predictions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from cifar_report.execution.execute import outcome
from cifar_report.execution.plan import PlannedRun
from cifar_report.execution.resources import THREAD_VARIABLES
from cifar_report.execution.worker import execute_run
from cifar_report.experiments.errors import RequestError
from cifar_report.records.backup import BACKUP
from cifar_report.records.files import PREDICTIONS
from cifar_report.records.record import RESUMED_ELSEWHERE, RunRecord, read_record

TOLERANCE = 0.02  # accuracy, as a fraction, that another machine, thread count or version may differ by


def verify_runs(plan: Sequence[PlannedRun], *, named: bool) -> bool:
    """Train the plan's complete runs again, or only the quickest if none was named, and compare with the records.

    On the same CPU with the same number of threads and the same versions every prediction must be the same to the
    last bit (logits as stored, float16). Elsewhere, or if the recorded run was resumed under different conditions, the
    accuracy must lie within `TOLERANCE`. Returns whether every run reproduced, and of those that were named every one
    could be trained again; refuses a plan of which no run is complete.
    """
    complete = []
    for run in plan:
        state, record = run.state(), read_record(run.folder)
        if state.status == "complete" and run.problems:
            print(f"{run.name}: cannot be verified here: {state.reason}")
        elif state.status == "complete" and record:
            complete.append((run, record))
        elif named:
            print(f"{run.name}: not verified, because it is {state.status}")
    if not complete:
        raise RequestError("none of these runs is complete and can be trained again here: nothing to verify")
    if not named:
        complete = [min(complete, key=lambda pair: pair[1].seconds.total)]
    results = [_verify(run, record) for run, record in complete]  # every one, even after a failure
    return all(results) and (not named or len(complete) == len(plan))


def _verify(run: PlannedRun, record: RunRecord) -> bool:
    threads = {name: str(record.environment.threads) for name in THREAD_VARIABLES} if record.environment else {}
    with tempfile.TemporaryDirectory(prefix="cifar-report-verify-") as folder, mock.patch.dict(os.environ, threads):
        again = replace(run, parameters=run.parameters.model_copy(update={"output_dir": folder}))
        os.environ.pop(BACKUP, None)  # the copy of the recorded run stays
        repeated = execute_run(again)
        if repeated.status == "failed" or repeated.test is None or record.test is None:
            print(f"{run.name}: does not reproduce: {outcome(repeated)}")
            return False
        same = same_predictions(run.folder, again.folder)
    accuracies = f"({record.test.accuracy:.2%} on record, {repeated.test.accuracy:.2%} now)"
    if same:
        print(f"{run.name}: reproduces to the last bit {accuracies}")
        return True
    code = {"git_commit", "git_dirty"}  # which is in the key; the rest is what a run's bits may depend on
    was, now = (run.environment and run.environment.model_dump(exclude=code) for run in (record, repeated))
    resumed_elsewhere = any(warning.startswith(RESUMED_ELSEWHERE) for warning in record.warnings)
    if was and was["device"] == "cpu" and was == now and not resumed_elsewhere:
        print(f"{run.name}: does not reproduce to the last bit on the same CPU {accuracies}")
        return False
    close = abs(record.test.accuracy - repeated.test.accuracy) <= TOLERANCE
    print(
        f"{run.name}: {'reproduces' if close else 'does not reproduce'} within {100 * TOLERANCE:.0f} points "
        f"on a GPU, another machine, another version or another number of threads {accuracies}"
    )
    return close


def same_predictions(first: Path, second: Path) -> bool:
    """Whether two run folders hold the same predictions for the same images, to the last bit."""
    with np.load(first / PREDICTIONS) as a, np.load(second / PREDICTIONS) as b:
        return all(np.array_equal(a[name], b[name]) for name in ("logits", "labels", "predicted", "index"))
