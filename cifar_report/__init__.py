"""A reproducible notebook report package for CIFAR-10.

`Run` is one experiment with one seed; `Journal` reads what runs have left. Both are imported when first used, because
they import torch and pandas.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_report.journal.journal import Journal
    from cifar_report.run import Run

__all__ = ["Journal", "Run"]
__version__ = "1.0.0"

# Threads that wait for each other give up their core at once, before torch is imported: with GNU OpenMP's default, two
# processes of two threads on the same two cores ran LeNet at 0.12 of their speed each; so at 0.59, and alone at 0.91.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ.update({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"})

_MODULES = {"Journal": "cifar_report.journal.journal", "Run": "cifar_report.run"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
