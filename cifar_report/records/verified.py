"""`verified.json` beside a record, written by `make verify-code`: it says that today's code gives the record's bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cifar_report.experiments.catalog import load_catalog
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import validate
from cifar_report.records.key import key_facts, run_key
from cifar_report.records.record import KeyFacts, RunRecord

VERIFIED = "verified.json"


class Verification(BaseModel, extra="forbid"):
    """Two versions of the code gave the same weights and predictions, to the last bit, in a shortened run."""

    recorded_key: str
    recorded_commit: str
    recorded_facts: KeyFacts
    key: str
    commit: str
    facts: KeyFacts
    shortened: dict[str, Any]  # parameters that the runs compared had in place of the record's
    device_name: str
    torch: str
    verified_at: str


def read_verification(folder: Path, record: RunRecord) -> Verification | None:
    """What is noted beside this very record; `None` where nothing is."""
    try:
        found = Verification.model_validate_json((folder / VERIFIED).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.recorded_key == record.key else None


def valid_keys(folder: Path, record: RunRecord) -> set[str]:
    """The keys of the code that gives this record: its own, and the one it was verified for."""
    verification = read_verification(folder, record)
    return {key for key in (record.key, verification and verification.key) if key}


def recorded_code(folder: Path, record: RunRecord) -> tuple[str, str] | None:
    """Digests of the notebook's and the library's code that give this record, as last verified; `None` if unknown."""
    verification = read_verification(folder, record)
    facts = verification.facts if verification else record.key_facts
    return (facts.notebook, facts.library) if facts else None


def is_of_this_code(folder: Path, record: RunRecord) -> bool:
    """Whether this version's code gives the record, by its key or by what was verified."""
    known = record.key_facts
    if known is None:
        return False
    try:
        parameters = validate(record.parameters)
        notebook = load_catalog().family_named(record.family).notebook_path
    except RequestError:  # of another version's schema or journal
        return False
    return run_key(parameters, key_facts(parameters, notebook, known.data, known.weights)) in valid_keys(folder, record)
