"""Photographs in rows, as HTML: each a small PNG, enlarged by the browser, with its words beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from cifar_report.formatting import percent
from cifar_report.records.predictions import Predictions
from cifar_report.report.fragments import Fragment, scrolling

CELL = "margin:0;text-align:center;font-size:11px;line-height:1.25;overflow-wrap:anywhere"
WRAPPED = "display:inline-block;width:74px;vertical-align:top;margin:0 5px 5px 0"
PHOTOGRAPH = "display:block;width:100%;height:auto;image-rendering:pixelated"


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
    captioned = len(images) if captions is None else captions
    cells = "".join(
        _cell(image, title, CELL + (";" + WRAPPED if wrap else ""), captioned=index < captioned)
        for index, (image, title) in enumerate(zip(images, titles, strict=True))
    )
    grid = f"display:grid;grid-template-columns:repeat({columns},minmax(58px,1fr));gap:5px;max-width:{84 * columns}px"
    style = "" if wrap else grid
    return scrolling(f'<div style="{style}">{cells}</div>', alt)


def _cell(image: np.ndarray, title: str, style: str, *, captioned: bool) -> str:
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((96, 96))  # at most
    picture.save(stream, format="PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    lines = [escape(line) for line in title.split("\n")]
    photograph = f'<img src="data:image/png;base64,{data}" alt="{" ".join(lines)}" style="{PHOTOGRAPH}">'
    caption = f"<figcaption>{'<br>'.join(lines)}</figcaption>" if captioned else ""
    return f'<figure style="{style}">{photograph}{caption}</figure>'


def classes_grid(pixels: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, per_class: int = 3) -> Fragment:
    """The first images (uint8, (N, 3, S, S)) of every class, of the first twenty, a column each."""
    classes = classes[:20]
    members = [np.flatnonzero(labels == label)[:per_class] for label in range(len(classes))]
    blank = np.full(pixels.shape[1:], 255, dtype=np.uint8)  # where a class has fewer
    height = max(map(len, members))
    cells = [pixels[column[row]] if row < len(column) else blank for row in range(height) for column in members]
    alt = f"Up to {per_class} training images of each class: {', '.join(classes)}."
    return image_grid(np.array(cells), [*classes] * height, alt, columns=len(classes), captions=len(classes))


def confident_mistakes(images: np.ndarray, predictions: Predictions, classes: Sequence[str]) -> Fragment:
    """The wrong answers the model was surest of, ten at most, each with label, answer and probability.

    Args:
        images: the test images that were answered, uint8 (N, 3, H, W).
        predictions: the answers, in the same order.
        classes: their names.
    """
    wrong = predictions.confident_mistakes(10)
    told = [
        (classes[predictions.labels[i]], classes[predictions.predicted[i]], percent(predictions.confidence[i]))
        for i in wrong
    ]
    titles = [f"{label}\ntaken for {other}\n{probability}" for label, other, probability in told]
    words = "; ".join(f"{label} taken for {other} ({probability})" for label, other, probability in told)
    return image_grid(images[wrong], titles, f"Most confident mistakes: {words or 'none'}.", wrap=True)
