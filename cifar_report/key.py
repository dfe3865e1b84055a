"""The cache key of a run: what its result depends on, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cifar_report.experiment import Experiment, effective, shown
from cifar_report.record import KeyFacts, RunRecord
from cifar_report.source import library_digest


def key_facts(parameters: Experiment, notebook: Path, data_sha256: str, weights_sha256: str | None) -> KeyFacts:
    """What a run depends on beside its parameters, as it stands now."""
    return KeyFacts(
        notebook=notebook_digest(notebook),
        library=library_digest(parameters),
        data=data_sha256,
        weights=weights_sha256,
    )


def run_key(parameters: Experiment, facts: KeyFacts) -> str:
    """Hash of the resolved parameters, the notebook's code, the library's source, the data and the weights."""
    content = {"parameters": effective(parameters.result_parameters()), **facts.model_dump()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stale_because(record: RunRecord, parameters: Experiment, facts: KeyFacts) -> list[str]:
    """Why a complete run's key is no longer the one it would have now, in words."""
    now = effective(parameters.result_parameters())
    reasons = [
        f"{name} is {shown(now.get(name))}, was {shown(record.parameters.get(name))}"
        for name in {**now, **effective(record.parameters)}
        if now.get(name) != record.parameters.get(name)
    ]
    words = {
        "notebook": "the notebook's code",
        "library": "the library's code",
        "data": "the data",
        "weights": "the weights",
    }
    before = record.key_facts
    for name, word in words.items():
        if before is None or getattr(before, name) != getattr(facts, name):
            reasons.append(f"{word} changed")
    return reasons


def notebook_digest(notebook: Path) -> str:
    """Digest of a notebook's code cells, in order.

    The parameters cell aside, whose values are in the key, and the cell that fetches the package in Colab.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and not {"parameters", "colab"} & set(cell["metadata"].get("tags", []))
    ]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()
