"""Photographs in rows, as HTML: each a small PNG, enlarged by the browser, with its words below it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from cifar_report.formatting import percent
from cifar_report.records.predictions import Predictions
from cifar_report.report.confusion_matrix import MOST_COLUMNS
from cifar_report.report.fragments import Fragment, fragment


def image_grid(
    images: np.ndarray,
    titles: Sequence[str],
    alt: str,
    *,
    columns: int = 10,
    captions: int | None = None,
    wrap: bool = False,
) -> Fragment:
    """Images (uint8, (N, 3, H, W)) in rows, each above its title (lines divided by newlines).

    A row has `columns` images; with `wrap`, as many as there is room for. `captions`: only so many show their titles.
    """
    if len(images) == 0:
        return Fragment(f"<p>{escape(alt)}</p>", alt)
    cells = [(_png(image), title.split("\n")) for image, title in zip(images, titles, strict=True)]
    return fragment("grid.html.j2", alt, cells=cells, columns=columns, captions=captions, wrap=wrap)


def _png(image: np.ndarray) -> str:
    """An image of at most 96 pixels, in base64."""
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((96, 96))
    picture.save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def classes_grid(pixels: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Fragment:
    """The first three images (uint8, (N, 3, S, S)) of every class, of the first twenty, a column each."""
    classes = classes[:MOST_COLUMNS]
    members = [np.flatnonzero(labels == label)[:3] for label in range(len(classes))]
    blank = np.full(pixels.shape[1:], 255, dtype=np.uint8)  # where a class has fewer
    height = max(map(len, members))
    cells = [pixels[column[row]] if row < len(column) else blank for row in range(height) for column in members]
    alt = f"Up to 3 training images of each class: {', '.join(classes)}."
    return image_grid(np.array(cells), [*classes] * height, alt, columns=len(classes), captions=len(classes))


def confident_mistakes(images: np.ndarray, predictions: Predictions, classes: Sequence[str]) -> Fragment:
    """The wrong answers the model was surest of, ten at most, each with label, answer and probability.

    `images` are those that were answered, uint8 (N, 3, H, W), in the order of the predictions.
    """
    wrong = predictions.confident_mistakes(10)
    given = zip(predictions.labels[wrong], predictions.predicted[wrong], predictions.confidence[wrong], strict=True)
    answers = [(classes[label], classes[other], percent(share)) for label, other, share in given]
    titles = [f"{label}\ntaken for {other}\n{probability}" for label, other, probability in answers]
    words = "; ".join(f"{label} taken for {other} ({probability})" for label, other, probability in answers)
    return image_grid(images[wrong], titles, f"Most confident mistakes: {words or 'none'}.", wrap=True)
