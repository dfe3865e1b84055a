"""The decoded dataset as one memory-mapped array: decoded once a machine, shared by all processes."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from cifar_report.data import sources
from cifar_report.data.download import DownloadError, cache_folder
from cifar_report.data.pictures import find_picture_folder
from cifar_report.data.sources import Images
from cifar_report.experiments.errors import RequestError

FACTS = ("train_size", "classes", "source", "provenance", "sha256")  # kept beside the arrays
FORMAT = 3  # of the decoded arrays; a change makes them again
DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError)  # what reading a missing or damaged copy raises


def load_images(
    dataset: str, *, data_dir: str | None = None, offline: str = "fail", download: bool = True, size: int = 32
) -> tuple[Images, str | None]:
    """Return the decoded dataset, its arrays memory-mapped, and a warning if digits stand in for CIFAR-10.

    Without `download` only what is on this machine is found. Pictures of a folder are decoded to `size` pixels.

    Raises:
        RequestError: a local copy is damaged, or CIFAR-10 is not found and `offline` is `fail`.
    """
    if dataset == "digits":
        return _cached("digits", sources.load_digits), None
    if dataset == "folder":
        try:
            known, read = find_picture_folder(data_dir, size)
        except OSError as error:  # a link that leads nowhere, a folder that may not be read
            raise RequestError(f"{error.filename} cannot be read: {error.strerror}") from None
        return _cached(f"folder-{known}", read), None
    if local := sources.find_local_copy(data_dir):
        files, read = local
        return _cached(f"cifar10-{sources.identity('cifar10', files)}", read), None
    try:
        return _cached("cifar10", sources.download_cifar10 if download else _not_here), None
    except DownloadError as error:
        if offline == "fail":
            raise RequestError(
                "CIFAR-10 is not on this machine (data_dir and CIFAR_REPORT_DATA are not set) and cannot be "
                f"downloaded: {error}; name a local copy, or set offline=stand_in to use handwritten digits"
            ) from None
    warning = "CIFAR-10 not found: handwritten digits are used instead, so the figures say nothing about CIFAR-10"
    return _cached("digits", sources.load_digits), warning


def _not_here() -> Images:
    raise DownloadError("this command downloads nothing")


def find_images(sha256: str) -> Images | None:
    """The dataset with that digest, if this machine has it, decoded or as a local copy; nothing is downloaded."""
    for facts in (cache_folder() / "datasets").glob("*/facts.json"):
        with contextlib.suppress(*DAMAGED):
            if (images := _open(facts.parent)).sha256 == sha256:
                return images
    with contextlib.suppress(RequestError):  # a damaged copy is not what is asked for
        if (images := load_images("cifar10", download=False)[0]).sha256 == sha256:
            return images
    return None


def _cached(name: str, read: Callable[[], Images]) -> Images:
    folder = cache_folder() / "datasets" / f"{name}-v{FORMAT}"
    with contextlib.suppress(*DAMAGED):  # made again
        return _open(folder)
    images = read()
    images = replace(images, sha256=sources.content_digest(images.pixels, images.labels))
    try:
        _store(folder, images)
        return _open(folder)
    except OSError:  # an unwritable cache only costs the decoding
        return images


def _open(folder: Path) -> Images:
    facts = json.loads((folder / "facts.json").read_text())
    # Copy-on-write: torch wants writable memory, and pages nobody writes to stay shared between processes.
    pixels = np.load(folder / "pixels.npy", mmap_mode="c")
    labels = np.load(folder / "labels.npy")
    known = (folder / "pixels.npy").stat()
    version = (str(folder), facts["sha256"], known.st_ino, known.st_mtime_ns)
    verified = version in _verified or sources.content_digest(pixels, labels) == facts["sha256"]
    if not verified or len(pixels) != len(labels):
        raise ValueError("damaged cache")
    _verified.add(version)  # once a process: 0.1 s for CIFAR-10
    return Images(pixels, labels, **{name: facts[name] for name in FACTS} | {"classes": tuple(facts["classes"])})


_verified: set[tuple[str, str, int, int]] = set()


def _store(folder: Path, images: Images) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-", ignore_cleanup_errors=True) as made:
        (temporary := Path(made, "images")).mkdir()  # others may read it; what is made above is one user's alone
        np.save(temporary / "pixels.npy", images.pixels)
        np.save(temporary / "labels.npy", images.labels)
        (temporary / "facts.json").write_text(json.dumps({name: getattr(images, name) for name in FACTS}))
        with contextlib.suppress(*DAMAGED):
            _open(folder)  # another process was faster, and others may read its files already
            return
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
