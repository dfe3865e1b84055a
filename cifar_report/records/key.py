"""The cache key of a run: what its result depends on, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar_report.experiments.schema import Experiment, acting_only, differences, shown, with_defaults
from cifar_report.records.code_digest import code_digest
from cifar_report.records.record import KeyFacts, RunRecord

# Code cells of these tags decide no result: their values are in the key, or they fetch the package, teach, or show.
COLAB, LESSON = "colab", "lesson"
NO_RESULT_TAGS = frozenset({"parameters", COLAB, LESSON, "show"})


def key_facts(parameters: Experiment, notebook: Path, data_sha256: str, weights_sha256: str | None) -> KeyFacts:
    """What a run depends on beside its parameters, as it stands now."""
    return KeyFacts(
        notebook=notebook_digest(notebook), library=code_digest(parameters), data=data_sha256, weights=weights_sha256
    )


def run_key(parameters: Experiment, facts: KeyFacts) -> str:
    """Hash of the parameters that act and differ from the defaults, and of the facts."""
    content = {"parameters": key_parameters(parameters.result_parameters()), **facts.model_dump()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def key_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that act and differ from the schema's defaults; the experiment's name decides nothing.

    So a parameter that is added later leaves every key as it was.
    """
    plain = with_defaults({})
    acting = acting_only(with_defaults(parameters))
    return {n: value for n, value in acting.items() if n != "experiment" and value != plain.get(n)}


def stale_because(record: RunRecord, parameters: Experiment, facts: KeyFacts) -> list[str]:
    """Why a complete run's key is no longer the one it would have now, in words."""
    before, now = (with_defaults(key_parameters(p)) for p in (record.parameters, parameters.result_parameters()))
    changes = differences(before, now, ignored=("experiment",))
    reasons = [f"{name} is {shown(current)}, was {shown(recorded)}" for name, (recorded, current) in changes.items()]
    words = {"notebook": "the notebook's code", "library": "the library's code"}
    known = record.key_facts
    for name in KeyFacts.model_fields:
        if known is None or getattr(known, name) != getattr(facts, name):
            reasons.append(f"{words.get(name, f'the {name}')} changed")
    return reasons


def notebook_digest(notebook: Path) -> str:
    """Digest of a notebook's code cells that decide the result, in order."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    deciding = [cell for cell in cells if NO_RESULT_TAGS.isdisjoint(cell["metadata"].get("tags", []))]
    code = ["".join(cell["source"]) for cell in deciding if cell["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()
