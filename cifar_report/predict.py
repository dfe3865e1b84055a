"""Using a finished run's model on pictures of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pandas as pd
import torch
from PIL import UnidentifiedImageError
from safetensors.torch import load_file
from torch import nn

from cifar_report.data.pictures import pictures_in, read_picture
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import validate
from cifar_report.formatting import as_text
from cifar_report.records.files import WEIGHTS
from cifar_report.records.record import read_record
from cifar_report.training.build import fit_head
from cifar_report.training.choices import chosen
from cifar_report.training.inputs import to_input


@dataclass(frozen=True)
class Prediction:
    """A picture's classes with their probabilities, likeliest first."""

    path: Path
    classes: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return f"{self.path}: " + ", ".join(f"{label} {share:.1%}" for label, share in self.classes)


def load_trained(folder: Path) -> tuple[nn.Module, dict, tuple[str, ...]]:
    """A complete run's model, evaluating on the CPU, its parameters and class names; refuses any other run."""
    record = read_record(folder)
    if record is None or record.status != "completed" or record.data is None:
        raise RequestError(f"there is no complete run in {folder}; run it first")
    if not (folder / WEIGHTS).exists():
        raise RequestError(f"{folder} has no trained weights; run it again in another output folder (--output)")
    classes = record.data.class_names
    model = chosen("model", record.parameters["model"]).build()
    fit_head(model, len(classes))
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:  # safetensors and torch have errors of their own for a damaged file
        raise RequestError(f"{folder / 'model.safetensors'} is missing or damaged: {error}".splitlines()[0]) from None
    return model.eval(), record.parameters, classes


def find_pictures(paths: Iterable[Path | str] | Path | str) -> list[Path]:
    """The picture files among `paths`, folders replaced by the pictures in them; refuses what does not exist."""
    found: list[Path] = []
    for path in (Path(path).expanduser() for path in ([paths] if isinstance(paths, str | Path) else paths)):
        if path.is_dir():
            found += (pictures := pictures_in(path, readable=False))
            if not pictures:
                raise RequestError(f"there is no picture in {path}")
        elif path.exists():
            found.append(path)
        else:
            raise RequestError(f"there is no file or folder {path}")
    return found


@torch.no_grad()
def predict(
    paths: Iterable[Path | str] | Path | str, folder: Path | str, *, top: int = 3
) -> tuple[list[Prediction], list[tuple[Path, str]]]:
    """Classify pictures with a complete run's weights and its own preprocessing.

    Returns:
        the predictions, and the pictures that could not be read with the reason.
    """
    model, parameters, classes = load_trained(Path(folder))
    values = validate(parameters)
    size = values.image_size if values.dataset == "folder" else 32  # of the pictures that it was trained on
    predictions, unreadable = [], []
    for path in find_pictures(paths):
        try:
            image = torch.from_numpy(read_picture(path, size))
        except Exception as error:  # of a damaged file, whatever the reader of its format raises
            reason = "not a picture that is read here" if isinstance(error, UnidentifiedImageError) else str(error)
            unreadable.append((path, reason))
            continue
        probabilities = model(to_input(image[None], values.image_size, values.normalize)).softmax(1)[0]
        order = probabilities.argsort(descending=True)[:top].tolist()
        predictions.append(Prediction(path, tuple((classes[i], float(probabilities[i])) for i in order)))
    return predictions, unreadable


def write_csv(predictions: Iterable[Prediction], stream: TextIO) -> None:
    """Write every class shown as a row: picture, rank, class, probability."""
    classes = ((p.path, rank, *of) for p in predictions for rank, of in enumerate(p.classes, start=1))
    rows = [(as_text(str(path)), rank, as_text(label), f"{share:.6f}") for path, rank, label, share in classes]
    table = pd.DataFrame(rows, columns=["picture", "rank", "class", "probability"])
    table.to_csv(stream, index=False, lineterminator="\n")
