"""Made-up run folders, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np

from cifar_report.experiments.catalog import load_catalog, load_experiment
from cifar_report.records.record import (
    DataRecord,
    EnvironmentRecord,
    EpochRecord,
    ErrorRecord,
    ModelRecord,
    RunRecord,
    SecondsRecord,
    TestRecord,
    WeightsRecord,
    run_folder,
    write_record,
)

LABELS = (np.arange(1000) % 10).astype(np.uint8)


def write_run(
    output: Path,
    experiment: str,
    accuracy: float = 0.7,
    *,
    seed: int = 0,
    validation_losses: tuple[float, ...] = (1.5, 1.0, 1.2, 1.4),
    lucky: int = 0,
    failed: ErrorRecord | None = None,
    lacks_weights: bool = False,
    parameters: dict | None = None,
    train_size: int = 50_000,
    index: np.ndarray | None = None,
) -> RunRecord:
    """Write a run whose model is right on the first `accuracy * 1000` of 1,000 test images, shifted by `lucky`."""
    resolved = load_experiment(experiment, profile="full", overrides={**(parameters or {}), "seed": seed})
    weights = WeightsRecord(name="imagenet", source="torchvision", sha256="ef" * 32, provenance="official")
    family = load_catalog().family_of[experiment]
    index = np.arange(1000) if index is None else index
    labels = LABELS[index]
    right = (np.arange(1000) - lucky) % 1000 < round(1000 * accuracy)
    predicted = np.where(right[index], labels, (labels + 1) % 10).astype(np.uint8)
    correct = int((predicted == labels).sum())
    epochs = [
        EpochRecord(
            epoch=n,
            train_loss=1.6 / n,
            train_accuracy=0.4 + 0.1 * n,
            validation_loss=loss,
            validation_accuracy=accuracy - 0.02 * (len(validation_losses) - n),
            lr=0.01,
            seconds=2.0,
        )
        for n, loss in enumerate(validation_losses, start=1)
    ]
    record = RunRecord(
        experiment=experiment,
        family=family.name,
        seed=seed,
        key="0" * 64,
        status="failed" if failed else "completed",
        error=failed,
        parameters=resolved.result_parameters(),
        started_at="2026-01-02T03:04:05+00:00",
        finished_at="2026-01-02T03:14:05+00:00",
        seconds=SecondsRecord(setup=1, train=598, evaluate=1, total=600),
    )
    folder = run_folder(output, experiment, seed)
    if not failed:
        record = record.model_copy(
            update={
                "epochs": epochs,
                "test": TestRecord(loss=1.0, accuracy=correct / len(labels), correct=correct, total=len(labels)),
                "weights": weights if resolved.weights and not lacks_weights else None,
                "best_epoch": int(np.argmin(validation_losses)) + 1,
                "model": ModelRecord(name="lenet", parameters=541_094, trainable_parameters=541_094),
                "data": DataRecord(
                    name="cifar10",
                    source="official archive",
                    sha256="ab" * 32,
                    train_size=train_size,
                    test_size=len(labels),
                    validation="test",
                    validation_size=len(labels),
                    split_sha256="cd" * 32,
                    provenance="official",
                ),
                "environment": EnvironmentRecord(
                    python="3.12.1",
                    torch="2.11.0",
                    torchvision="0.26.0",
                    platform="Linux",
                    device="cpu",
                    device_name="A Processor",
                    threads=2,
                    git_commit=None,
                    git_dirty=None,
                ),
            }
        )
        folder.mkdir(parents=True, exist_ok=True)
        logits = np.eye(10, dtype=np.float16)[predicted]
        np.savez(folder / "predictions.npz", logits=logits, labels=labels, predicted=predicted, index=index)
    write_record(folder, record)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {experiment}")])
    nbformat.write(notebook, folder / "notebook.ipynb")
    return record
