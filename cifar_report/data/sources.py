"""Where the images come from: a local copy, the official archive, the parquet mirror, or bundled digits.

Everything here returns `Images`: train and test in one array, decoded and checked. Nothing imports torch.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import pickle
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cifar_report.data.download import DownloadError, cache_folder, download, named_folder
from cifar_report.data.splits import rank_in_class
from cifar_report.experiments.errors import RequestError, first_line
from cifar_report.experiments.schema import CLASSES
from cifar_report.records.record import Provenance

SIZES = (50_000, 10_000)

ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_NAME = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"  # torchvision.datasets.CIFAR10.tgz_md5
ARCHIVE_FOLDER = "cifar-10-batches-py"
BATCH_MD5 = {  # torchvision.datasets.CIFAR10.train_list and test_list
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
MIRROR_URL = "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/main/plain_text/"
MIRROR_FILES = ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
LABELS_SHA256 = "3edb456524d5918aefded81f5aef7c32efab2a788211df998a4eb0c8957baa1f"  # in the archive's order


@dataclass(frozen=True)
class Images:
    """A decoded dataset: `pixels`, uint8 (N, 3, S, S), training images first; `labels`, uint8 (N,)."""

    pixels: np.ndarray
    labels: np.ndarray
    train_size: int
    classes: tuple[str, ...]
    source: str
    provenance: Provenance
    sha256: str = ""


def identity(kind: str, files: Iterable[Path]) -> str:
    """Digest of what the system knows of files: changes when they do, without reading them.

    The time of the last change of state (`ctime`) is among it, which no program can set back.
    """
    known = [(path.resolve(), path.stat()) for path in files]
    facts = [(str(path), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in known]
    return hashlib.sha256(repr((kind, facts)).encode()).hexdigest()[:16]


def content_digest(pixels: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of the pixels (uint8, N x 3 x S x S, C order) followed by the labels (uint8)."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def find_local_copy(data_dir: str | None) -> tuple[tuple[Path, ...], Callable[[], Images]] | None:
    """Look for CIFAR-10 under `data_dir`, else `$CIFAR_REPORT_DATA`, which must hold it; `None`: neither is given.

    Returns its files, and what verifies and decodes them: an error there names the damaged file and the remedy.
    """
    if not (named := named_folder("data_dir", data_dir, "CIFAR_REPORT_DATA")):
        return None
    folder, origin = named
    for batches in (folder / ARCHIVE_FOLDER, folder):
        files = tuple(batches / name for name in BATCH_MD5)
        if any(file.is_file() for file in files):
            if absent := next((file for file in files if not file.is_file()), None):
                raise _damaged(absent, "is missing")
            return files, partial(_read_batches, files)
    if (archive := folder / ARCHIVE_NAME).is_file():
        return (archive,), partial(read_archive, archive, "official archive, local copy")
    train, test = sorted(folder.glob("train-*.parquet")), sorted(folder.glob("test-*.parquet"))
    if train and test:
        return (*train, *test), partial(read_parquet, (*train, *test), "unofficial copy (local parquet)")
    raise RequestError(
        f"{origin} names the folder {folder}, which holds no copy of CIFAR-10: expected {ARCHIVE_NAME}, "
        f"{ARCHIVE_FOLDER}/, or train-*.parquet and test-*.parquet"
    )


def download_cifar10() -> Images:
    """Fetch CIFAR-10: the official archive, else the parquet mirror; an error says what went wrong with both."""
    folder = cache_folder() / "downloads"
    try:
        archive = download(ARCHIVE_URL, folder, ARCHIVE_NAME, digest=f"md5:{ARCHIVE_MD5}")
        return read_archive(archive, "official archive")
    except DownloadError as error:
        failure = str(error)
    try:
        files = tuple(download(MIRROR_URL + name, folder, name, digest=None) for name in MIRROR_FILES)
        return read_parquet(files, "parquet mirror (Hugging Face, uoft-cs/cifar10)")
    except DownloadError as error:
        raise DownloadError(f"{failure}; {error}") from None


def read_archive(path: Path, source: str) -> Images:
    """Decode the official archive; its checksum is verified before anything is unpickled."""
    with tarfile.open(fileobj=io.BytesIO(_verified(path, ARCHIVE_MD5))) as archive:
        contents = [archive.extractfile(f"{ARCHIVE_FOLDER}/{name}").read() for name in BATCH_MD5]  # type: ignore[union-attr]
    return _from_batches(contents, source)


def _read_batches(files: tuple[Path, ...]) -> Images:
    return _from_batches([_verified(file, BATCH_MD5[file.name]) for file in files], "official archive, local copy")


def _from_batches(contents: list[bytes], source: str) -> Images:
    batches = [pickle.loads(content, encoding="bytes") for content in contents]  # noqa: S301 - checksum verified
    pixels = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([np.asarray(batch[b"labels"], dtype=np.uint8) for batch in batches])
    return Images(pixels, labels, len(labels) - len(batches[-1][b"labels"]), CLASSES["cifar10"], source, "official")


def read_parquet(files: tuple[Path, ...], source: str) -> Images:
    """Decode train and test parquet files (columns `img{bytes, path}` and `label`), 60,000 PNG images."""
    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    found: dict[bool, list[Any]] = {True: [], False: []}  # of training files and of others: images and labels
    for file in files:
        try:
            for row in pyarrow.parquet.read_table(file, columns=["img", "label"]).to_pylist():
                picture = np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")).reshape(32, 32, 3)
                found[file.name.startswith("train")].append((picture, row["label"]))
        except (pyarrow.ArrowException, KeyError, OSError, TypeError, ValueError, SyntaxError) as error:
            raise _damaged(file, f"is damaged ({first_line(error)})") from None
    for split, size, rows, file in zip(("training", "test"), SIZES, found.values(), (files[0], files[-1]), strict=True):
        if Counter(label for _, label in rows) != dict.fromkeys(range(10), size // 10):
            raise _damaged(file, f"is incomplete: {len(rows):,} {split} images where CIFAR-10 has {size:,}")
    pixels, labels = (np.stack(column) for column in zip(*found[True], *found[False], strict=True))
    order = archive_order(labels := labels.astype(np.uint8))
    pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return Images(pixels[order], labels[order], SIZES[0], CLASSES["cifar10"], source, "copy")


def archive_order(labels: np.ndarray) -> np.ndarray:
    """The images in the archive's order, which splits and runs depend on: the mirror seems to have another.

    Where no order of the five batches gives the archive's labels, all images stay where they are.
    """
    *batches, test = np.arange(sum(SIZES)).reshape(6, -1)
    orders = (np.concatenate([*some, test]) for some in itertools.permutations(batches))
    right = (order for order in orders if hashlib.sha256(labels[order]).hexdigest() == LABELS_SHA256)
    return next(right, np.arange(len(labels)))


def load_digits() -> Images:
    """scikit-learn's handwritten digits, 8 x 8 enlarged to 32 x 32 RGB; every fifth of a class is a test image."""
    from sklearn.datasets import load_digits as sklearn_digits

    digits = sklearn_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), 0..16 to 0..255
    pixels = small[:, None].repeat(3, axis=1).repeat(4, axis=2).repeat(4, axis=3)
    labels = digits.target.astype(np.uint8)
    order, train_size = every_fifth_tests(labels)
    source = "scikit-learn's bundled digits"
    return Images(pixels[order], labels[order], train_size, CLASSES["digits"], source, "bundled")


def every_fifth_tests(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """An order of images in which every fifth of a class comes last, to be tested; and how many train."""
    tested = rank_in_class(labels) % 5 == 4
    return np.argsort(tested, kind="stable"), int((~tested).sum())


def _verified(file: Path, md5: str) -> bytes:
    """A file's content, whose checksum is right: read once, so that what is unpickled is what was verified."""
    content = file.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise _damaged(file, "is damaged (wrong checksum)")
    return content


def _damaged(file: Path, what: str) -> RequestError:
    return RequestError(f"{file} {what}; delete it and fetch it again, or name another copy with data_dir")
