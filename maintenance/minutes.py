"""How long a run of each experiment takes on this machine: `python maintenance/minutes.py`, with nothing else running.

It measures each training on a few images, as `cifar-report run --dry-run` does, with the precision that the profile
`reference` names, and writes the lower of two measurements to `outputs/reference/minutes.csv`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd

from cifar_report.data.download import cache_folder
from cifar_report.execution.plan import make_plan
from cifar_report.execution.speed import seconds_left
from cifar_report.records.record import now
from cifar_report.training.environment import describe_environment, find_device

ROUNDS = 2  # other machines on the same processor may disturb one
TABLE = Path(__file__).resolve().parents[1] / "outputs" / "reference" / "minutes.csv"


def main() -> int:
    """Measure every experiment and write the table; returns an exit code."""
    machine, rows = describe_environment(find_device("auto")), []
    facts = {"device": machine.device_name, "threads": machine.threads, "torch": machine.torch, "measured": now()[:10]}
    with tempfile.TemporaryDirectory() as nowhere:
        plan = make_plan(profile="reference", output_dir=Path(nowhere), read_only=True)
        for _ in range(ROUNDS):
            (cache_folder() / "speed.json").unlink(missing_ok=True)  # what was measured before
            for run in plan:
                minutes = seconds_left(run) / 60
                rows.append({"experiment": run.parameters.experiment, "minutes": round(minutes, 2), **facts})
                print(f"{run.name}: {minutes:.1f} minutes", flush=True)
    lowest = pd.DataFrame(rows).groupby("experiment", sort=False).min().reset_index()
    lowest.to_csv(TABLE, index=False, lineterminator="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
