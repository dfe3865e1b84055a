"""Whether the packages installed here are those that this one needs."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement


def unmet_requirements() -> list[str]:
    """A sentence for each package of another version than needed. One that is not installed is not named."""
    found = []
    for needed in map(Requirement, requires("cifar-report") or ()):
        with suppress(PackageNotFoundError):
            if not needed.marker and not needed.specifier.contains(has := version(needed.name), prereleases=True):
                found.append(f"{needed.name} {has} is installed, and cifar-report needs {needed}.")
    return found
