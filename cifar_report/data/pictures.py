"""Pictures of one's own: files that people have, and folders of them as a dataset."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cifar_report.data.sources import Images, every_fifth_tests, identity
from cifar_report.data.splits import SPLIT_SEED
from cifar_report.experiments.errors import RequestError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
# Pictures, but not read here:
UNREADABLE = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".dng", ".raw", ".psd", ".tga", ".pbm", ".pnm"}
MOST_PIXELS = 64_000_000  # of a picture: decoding takes some ten bytes each
MOST_CLASSES, MOST_TESTED = 256, 65_536  # what predictions are written with: uint8 and uint16


def read_picture(path: Path, size: int) -> np.ndarray:
    """A picture's central square, RGB, scaled to `size` pixels; uint8 (3, size, size).

    What is transparent lies over white; 16-bit grey is scaled to 8 bits.

    Raises:
        ValueError: it has more than `MOST_PIXELS`. Others: it cannot be read, of which Pillow has errors of many kinds.
    """
    with Image.open(path) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {MOST_PIXELS:,}")
        with suppress(SyntaxError):  # what Pillow raises where a picture's notes are damaged: it is taken as it lies
            ImageOps.exif_transpose(image, in_place=True)  # phones note how they were held
        if image.mode == "F" or (image.mode == "I" and not 255 < np.asarray(image).max() < 65_536):
            raise ValueError("the scale of its values is not known: make it a JPEG")
        deep = image.mode.startswith("I")
        coloured = (Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if deep else image).convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BOX)
    return np.array(square).transpose(2, 0, 1)


def pictures_in(folder: Path, *, readable: bool = True) -> list[Path]:
    """The picture files in a folder, by name; with `readable`, those of a format that is not read are refused."""
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]  # a Mac leaves `._1.jpg`
    others = sorted(file.name for file in files if file.suffix.lower() in UNREADABLE)
    if others and readable:
        raise RequestError(f"{folder} has pictures in an unreadable format, such as {others[0]}: make them JPEGs")
    deeper = (file for inner in files if inner.is_dir() and inner.name[0].isalnum() for file in inner.rglob("[!.]*"))
    if readable and (left_out := next((file for file in deeper if file.suffix.lower() in SUFFIXES), None)):
        raise RequestError(f"{left_out} would be left out: put the pictures of a class in its folder, not deeper")
    return sorted(file for file in files if file.suffix.lower() in SUFFIXES | UNREADABLE)


def find_picture_folder(data_dir: str | None, size: int) -> tuple[str, Callable[[], Images]]:
    """Look below `data_dir` for a folder of pictures for each class, or for two such folders: `train/` and `test/`.

    There must be two to `MOST_CLASSES` classes, with pictures to train on and to test with. Returns what changes when
    the files or their labels do (links to files may move, and these stay), and what decodes them to `size` pixels.
    """
    if data_dir is None:
        raise RequestError("dataset=folder needs data_dir: a folder with a folder of pictures for each class")
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise RequestError(f"data_dir names the folder {folder}, which does not exist")
    parts = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    apart = {"train", "test"} <= parts.keys()
    if "train" in parts and not apart and parts.keys() <= {"train", "val", "valid", "validation"}:
        raise RequestError(
            f"{folder} has pictures to train on: put those to test with beside them, in train/ and test/"
        )
    train = _classes_in(parts["train"] if apart else folder)
    test = _classes_in(parts["test"]) if apart else {}
    if not 2 <= len(train) <= MOST_CLASSES:
        raise RequestError(
            f"data_dir names the folder {folder}, which should hold a folder of pictures for each of 2 to "
            f"{MOST_CLASSES} classes, or such folders in train/ and in test/; it has {len(train)}"
        )
    for name in {**train, **test}:
        if not train.get(name) or not (test.get(name) if apart else train[name][4:]):
            least = "one in train/ and one in test/" if apart else f"five, not {len(train[name])}"
            raise RequestError(f"class {name} in {folder} has too few pictures to train on and to test with: {least}")
    both = [*enumerate(train.values()), *enumerate(test.values())]
    labels = [label for label, pictures in both for _ in pictures]
    files = [file for _, pictures in both for file in pictures]
    train_size = sum(map(len, train.values())) if apart else None
    unused = sorted(p for p in parts.keys() - {"train", "test", "__macosx"} if p[0] != ".") if apart else []
    source = f"a folder of pictures, decoded to {size} pixels"
    if unused:
        source += f", without its folder{'s' if len(unused) > 1 else ''} {', '.join(unused)}"
    known = identity(f"{source}, {tuple(train)}, {labels}, {train_size}", files)
    return known, partial(_read_pictures, files, labels, tuple(train), train_size, size, source)


def _read_pictures(
    files: list[Path], numbers: list[int], classes: tuple[str, ...], train_size: int | None, size: int, source: str
) -> Images:
    """Decode every picture; an error names one that cannot be read. Without `train_size` every fifth tests."""
    labels = np.array(numbers, dtype=np.uint8)
    pixels = np.empty((len(labels), 3, size, size), dtype=np.uint8)
    for number, file in enumerate(files):
        try:
            pixels[number] = read_picture(file, size)
        except Exception as error:  # of a damaged file, whatever the reader of its format raises
            raise RequestError(f"{file} cannot be read as a picture: {error}; repair or remove it") from None
    shuffle = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation
    if train_size:
        order = np.concatenate([shuffle(train_size), np.arange(train_size, len(labels))])
    else:
        shuffled = shuffle(len(labels))
        order, train_size = every_fifth_tests(labels[shuffled])
        order = shuffled[order]
    if len(labels) - train_size > MOST_TESTED:
        raise RequestError(f"at most {MOST_TESTED:,} pictures can be tested, not {len(labels) - train_size:,}")
    digests = [hash(pixels[at].tobytes()) for at in order]
    trained = set(digests[:train_size])
    if twice := sum(digest in trained for digest in digests[train_size:]):
        source += f" ({twice} of its {len(labels) - train_size} test pictures also trained on)"
    return Images(pixels[order], labels[order], train_size, classes, source, "local file")


def _classes_in(folder: Path) -> dict[str, list[Path]]:
    """The folders in a folder, by name, and the pictures in each."""
    # A Mac's zip files bring `__MACOSX`.
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and p.name != "__MACOSX")
    return {path.name: pictures_in(path) for path in folders}
