"""Tables of one run's answers, as HTML that shows in a notebook and in the report alike."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from cifar_report.journal.statistics import wilson_interval
from cifar_report.report.fragments import Fragment, scrolling

MOST_CLASSES = 20  # that a table is wide enough for


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], caption: str = "") -> Fragment:
    """Counts (int, (N, N)): rows are labels, columns predictions; shaded by the row's share.

    The last columns are each class's accuracy with its Wilson 95 % interval; of many classes they stand alone.
    """
    wide = len(classes) > MOST_CLASSES
    heads = "" if wide else "".join(f'<th scope="col">{escape(name)}</th>' for name in classes)
    rows = "".join(_row(counts[index], index, name, cells=not wide) for index, name in enumerate(classes))
    off = counts - np.diag(np.diag(counts))
    worst = np.unravel_index(off.argmax(), off.shape)
    mistake = f"; most frequent mistake: {off[worst]:,} images of {classes[worst[0]]} taken for {classes[worst[1]]}"
    text = f"Confusion matrix. {np.trace(counts):,} of {counts.sum():,} images are right{mistake if off.any() else ''}."
    return scrolling(
        f'<table class="confusion"><caption>{caption or escape(text)}</caption><thead><tr>'
        f'<th scope="col">label{"" if wide else ", taken for:"}</th>{heads}<th scope="col">accuracy, %</th>'
        f'<th scope="col">95 % interval</th></tr></thead><tbody>{rows}</tbody></table>',
        text,
    )


def _row(counts: np.ndarray, label: int, name: str, *, cells: bool) -> str:
    total, right = int(counts.sum()), int(counts[label])
    shaded = "".join(_shaded(int(count), count / max(total, 1)) for count in counts) if cells else ""
    low, high = wilson_interval(right, total) if total else (0.0, 1.0)
    share = f"{100 * right / total:.1f}" if total else "–"
    return (
        f'<tr><th scope="row">{escape(name)}</th>{shaded}<td><b>{share}</b></td>'
        f"<td>{100 * low:.1f}–{100 * high:.1f}</td></tr>"
    )


def _shaded(count: int, share: float) -> str:
    """A cell, from clear to a blue that white text stands out from."""
    if share < 0.02:
        return f"<td>{count:,}</td>"
    red, green, blue = (round(255 - share * (255 - full)) for full in (8, 64, 129))
    ink = "#fff" if share > 0.7 else "#000"
    return f'<td style="background:#{red:02x}{green:02x}{blue:02x};color:{ink}">{count:,}</td>'
