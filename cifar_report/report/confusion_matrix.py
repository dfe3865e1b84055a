"""Tables of one run's answers, as HTML that shows in a notebook and in the report alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cifar_report.journal.statistics import wilson_interval
from cifar_report.report.fragments import Fragment, fragment

MOST_COLUMNS = 20  # that a table is wide enough for


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], caption: str = "") -> Fragment:
    """Counts (int, (N, N)): rows are labels, columns predictions; shaded by the row's share.

    The last columns are each class's accuracy with its Wilson 95 % interval; of many classes they stand alone.
    """
    text = f"Confusion matrix. {np.trace(counts):,} of {counts.sum():,} images are right"
    off = counts - np.diag(np.diag(counts))
    if off.any():
        label, other = np.unravel_index(off.argmax(), off.shape)
        text += f"; most frequent mistake: {off.max():,} images of {classes[label]} taken for {classes[other]}"
    rows = []
    for name, row, right in zip(classes, counts.tolist(), np.diag(counts).tolist(), strict=True):
        total = sum(row)
        cells = [(count, _shade(count / max(total, 1))) for count in row if len(classes) <= MOST_COLUMNS]
        interval = wilson_interval(right, total) if total else (0.0, 1.0)
        rows.append((name, cells, right / total if total else None, interval))
    return fragment("confusion.html.j2", f"{text}.", caption=caption or f"{text}.", rows=rows)


def _shade(share: float) -> str:
    """A cell's style, from clear to a blue that white text stands out from."""
    if share < 0.02:
        return ""
    red, green, blue = (round(255 - share * (255 - full)) for full in (8, 64, 129))
    return f"background:#{red:02x}{green:02x}{blue:02x};color:{'#fff' if share > 0.7 else '#000'}"
