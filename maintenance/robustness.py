"""How finished models do on spoilt test images: `python maintenance/robustness.py OUTPUT...`.

Records hold no weights, so this takes the output folders in which runs were trained, and leaves out runs that are not
on record. It executes the cell of the notebook of the fast recipe, on all test images, and adds to
`outputs/reference/robustness.csv` a row for each run and way of spoiling: how many images are right.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from execute_cell import execute_cell
from torch import nn

from cifar_report.data.dataset import load_dataset
from cifar_report.experiments.schema import Experiment, validate
from cifar_report.predict import load_trained
from cifar_report.records.files import WEIGHTS
from cifar_report.records.record import RunRecord, read_record, recorded_folder

REFERENCE = Path(__file__).resolve().parents[1] / "outputs" / "reference"
TABLE = REFERENCE / "robustness.csv"
EXPERIMENTS = ("EXP003", "EXP060", "EXP063", "EXP022", "EXP023", "EXP049")


def spoil(model: nn.Module, dataset: Any, parameters: Experiment, images: int) -> dict[str, Any]:
    """Execute the notebook's cell for a model and the first test images; returns its variables."""
    given = {"model": model, "dataset": dataset, "parameters": parameters}
    return execute_cell("08_fast_recipe.ipynb", "corruptions", f"images_to_spoil = {images}", **given)


def finished(outputs: list[Path]) -> Iterator[tuple[Path, RunRecord]]:
    """Folders of runs with their weights whose record is the committed one."""
    for weights in sorted(path for output in outputs for path in output.glob(f"runs/*/*/{WEIGHTS}")):
        record = read_record(weights.parent)
        committed = read_record(recorded_folder(REFERENCE, record)) if record else None
        if record and committed and (record.key, record.test) == (committed.key, committed.test):
            yield weights.parent, record


def main() -> None:
    """Score every finished run of `EXPERIMENTS`."""
    rows = []
    for folder, record in finished([Path(argument) for argument in sys.argv[1:]]):
        if record.experiment in EXPERIMENTS:
            print(f"{record.experiment} seed {record.seed}")
            model, values, _ = load_trained(folder)
            parameters = validate(values)
            answers = spoil(model, load_dataset(parameters), parameters, 10_000)["answers"]
            rows += [(record.experiment, record.seed, how, found.correct) for how, found in answers.items()]
    if not rows:
        sys.exit(f"none of these folders has a finished run on record of {', '.join(EXPERIMENTS)}, with its weights")
    columns = ["experiment", "seed", "spoilt", "correct"]
    earlier = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=columns)
    table = pd.concat([earlier, pd.DataFrame(rows, columns=columns)])
    table.drop_duplicates(columns[:3], keep="last").sort_values(columns[:2], kind="stable").to_csv(TABLE, index=False)


if __name__ == "__main__":
    main()
