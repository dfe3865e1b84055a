"""Using a finished run's model on pictures of one's own."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors.torch import load_file
from torch import nn

from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import CLASSES, validate
from cifar_report.formatting import as_text
from cifar_report.records.files import WEIGHTS
from cifar_report.records.record import read_record
from cifar_report.training.build import replace_head
from cifar_report.training.choices import chosen
from cifar_report.training.inputs import to_input

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
MOST_PIXELS = 64_000_000  # of a picture: decoding takes some ten bytes each
SIZE = 32  # pixels a side of the pictures a run was trained on, before its own resizing


@dataclass(frozen=True)
class Prediction:
    """A picture's classes with their probabilities, likeliest first."""

    path: Path
    classes: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return f"{self.path}: " + ", ".join(f"{label} {share:.1%}" for label, share in self.classes)


def load_trained(folder: Path) -> tuple[nn.Module, dict, tuple[str, ...]]:
    """A complete run's model in evaluation mode on the CPU, its parameters and its class names.

    Raises:
        RequestError: the run is not complete, or its weights are damaged.
    """
    record = read_record(folder)
    if record is None or record.status != "completed" or record.data is None:
        raise RequestError(f"there is no complete run in {folder}; run it first")
    if not (folder / WEIGHTS).exists():
        raise RequestError(
            f"{folder} is kept without its trained weights; run it again in a folder of its own (--output)"
        )
    network = chosen("model", record.parameters["model"])
    model = network.build()
    if hasattr(network, "HEAD"):
        replace_head(model, network.HEAD)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:  # safetensors and torch have errors of their own for a damaged file
        raise RequestError(f"{folder / 'model.safetensors'} is missing or damaged: {error}".splitlines()[0]) from None
    return model.eval(), record.parameters, CLASSES[record.data.name]


def find_pictures(paths: Iterable[Path | str]) -> list[Path]:
    """The picture files among `paths`, folders replaced by the pictures in them.

    Raises:
        RequestError: a path does not exist.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        elif path.exists():
            found.append(path)
        else:
            raise RequestError(f"there is no file or folder {path}")
    return found


def read_picture(path: Path) -> torch.Tensor:
    """A picture as the run's data: its central square, RGB, reduced to 32 pixels; uint8 (3, 32, 32).

    What is transparent lies over white; 16-bit grey is scaled to 8 bits.

    Raises:
        ValueError: it has more than `MOST_PIXELS`. Others: it cannot be read, of which Pillow has errors of many kinds.
    """
    with Image.open(path) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {MOST_PIXELS:,}")
        with suppress(SyntaxError):  # what Pillow raises where a picture's notes are damaged: it is taken as it lies
            ImageOps.exif_transpose(image, in_place=True)  # phones note how they were held
        if image.mode.startswith("I"):
            picture = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        else:
            coloured = image.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


@torch.no_grad()
def predict(
    paths: Iterable[Path | str], folder: Path, *, top: int = 3
) -> tuple[list[Prediction], list[tuple[Path, str]]]:
    """Classify pictures with a complete run's weights and its own preprocessing.

    Returns:
        the predictions, and the pictures that could not be read with the reason.
    """
    model, parameters, classes = load_trained(folder)
    values = validate(parameters)
    predictions, unreadable = [], []
    for path in find_pictures(paths):
        try:
            image = read_picture(path)
        except Exception as error:  # of a damaged file, whatever the reader of its format raises
            reason = "not a picture" if isinstance(error, UnidentifiedImageError) else str(error)
            unreadable.append((path, reason))
            continue
        probabilities = model(to_input(image[None], values.image_size, values.normalize)).softmax(1)[0]
        order = probabilities.argsort(descending=True)[:top].tolist()
        predictions.append(Prediction(path, tuple((classes[i], float(probabilities[i])) for i in order)))
    return predictions, unreadable


def write_csv(predictions: Iterable[Prediction], path: Path) -> None:
    """Write every class shown as a row: picture, rank, class, probability."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["picture", "rank", "class", "probability"])
        for prediction in predictions:
            for rank, (label, share) in enumerate(prediction.classes, start=1):
                writer.writerow([as_text(str(prediction.path)), rank, label, f"{share:.6f}"])
