"""Figures: each a vector drawing with a text that says what it shows, and the values that it draws.

Colours are Okabe and Ito's, a grey, and seven of Tol's, which colour-blind readers can tell apart; line styles tell up
to four apart in grey.
"""

from __future__ import annotations

import html
import io
import itertools
import re
import urllib.parse
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from cifar_report.experiments.catalog import load_catalog
from cifar_report.formatting import counted, grouped, percent
from cifar_report.journal.comparison import Comparison
from cifar_report.journal.journal import Result
from cifar_report.journal.statistics import Calibration
from cifar_report.records.record import EpochRecord, RunRecord

# In an order in which those of one line style are furthest apart: at least 28 in CIELAB, to colour-blind eyes, too.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#44AA99", "#56B4E9", "#999933", "#882255"),
    *("#117733", "#777777", "#661100", "#E69F00", "#000000", "#332288", "#AA4499"),
)
BASES = ("#000000", "#777777")
STYLES: tuple[Any, ...] = ("-", "--", "-.", (0, (6, 1, 1, 1, 1, 1)))
EFFECTS = {  # of a verdict: colour, marker and its face
    "better": ("#0072B2", "o", "#0072B2"),
    "equivalent": ("#777777", "D", "#777777"),
    "open": ("#000000", "o", "white"),
    "worse": ("#D55E00", "s", "#D55E00"),
}
FEWEST_ANSWERS = 10
COST_APART = 1.6  # factor between the costs of two points from which both their names fit side by side
MOST_BANDS = 8  # experiments of a figure whose seeds are shown as bands; of more they would hide each other
MOST_TRAINING = 10  # experiments of a figure that shows training losses, too
LEAP = 4.0  # times the highest training loss, beyond which a validation loss would press all curves flat
STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text as text: half the size; what is measured is DejaVu Sans, as wide as fonts get
    "svg.hashsalt": "cifar-report",  # the same figure is the same bytes
}

Histories = Mapping[str, Sequence[Sequence[EpochRecord]]]  # an experiment's histories, one per seed


@dataclass(frozen=True)
class Picture:
    """A drawn figure (SVG), its size in CSS pixels, the text that says what it shows, and the values of its lines.

    `remark` is what its caption must not leave out.
    """

    svg: str
    width: int
    height: int
    alt: str
    panels: tuple[dict[str, Any], ...] = ()  # as `_panel` makes them
    remark: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.__html__(), "text/plain": self.alt}

    def __html__(self) -> str:
        """An `<img>` with the drawing inside."""
        data = urllib.parse.quote(self.svg, safe=" !$'()*+,-./:;=?@[]^_`{|}~")
        alt = html.escape(self.alt, quote=True)
        return (
            f'<img src="data:image/svg+xml,{data}" width="{self.width}" height="{self.height}" alt="{alt}" '
            'style="max-width:100%;height:auto;background:#fff">'
        )


def render(figure: Figure, alt: str, panels: Sequence[dict[str, Any]] = (), remark: str = "") -> Picture:
    """Draw a figure; 100 CSS pixels an inch."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # it stays text, and the reader may have it
        figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<\?xml.*?\?>|<!DOCTYPE.*?>", "", svg, flags=re.DOTALL)
    # To hundredths of a point; what is text stays as it is.
    svg = re.sub(
        r">[^<]*<|\d+\.\d{3,}", lambda found: found[0] if found[0][0] == ">" else f"{float(found[0]):.2f}", svg
    )
    svg = re.sub(r"\s+", " ", svg).strip()
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    return Picture(svg, width, height, alt, tuple(panels), remark)


def _plots(width: float, height: float, count: int = 1, *, bottom: float = 0.45) -> tuple[Figure, list[Axes]]:
    """A figure and its plots side by side. All sizes are inches: margins known beforehand need no second drawing."""
    figure, left, right, top, gap = Figure(figsize=(width, height)), 0.55, 0.1, 0.12, 0.65
    each = (width - left - right - gap * (count - 1)) / count
    boxes = [(left + i * (each + gap), bottom, each, height - bottom - top) for i in range(count)]
    return figure, [figure.add_axes((x / width, y / height, w / width, h / height)) for x, y, w, h in boxes]


def appearances(names: Collection[str]) -> dict[str, tuple[str, Any]]:
    """Colour and line style of each experiment of a figure.

    The catalog's have those of their place in their family, so they look the same everywhere. Those of the user's own
    have what is left, colours that nobody has first.
    """
    found = {}
    for name in names:
        if family := load_catalog().family_of.get(name.upper()):
            place = [entry.id for entry in family.experiments].index(name.upper())
            found[name] = COLOURS[place % len(COLOURS)], STYLES[place % len(STYLES)]
    taken = {colour for colour, _ in found.values()}
    pairs = [(colour, style) for style in STYLES for colour in COLOURS if (colour, style) not in found.values()]
    free = itertools.cycle(sorted(pairs, key=lambda pair: pair[0] in taken))
    return {name: found.get(name) or next(free) for name in names}


def learning_curves(histories: Histories, bases: Histories | None = None) -> Picture:
    """Losses (training and validation) and validation accuracy against the epoch, one colour an experiment.

    `bases`, what these experiments build on, are dotted.

    Lines are means over runs; of a few experiments bands reach from the lowest to the highest run. A ring marks the
    epoch with the lowest validation loss. Where a validation loss leaps far above all training losses, losses have a
    logarithmic axis.
    """
    shown = {name: [list(h) for h in several] for name, several in {**histories, **(bases or {})}.items() if several}
    looks = appearances(histories) | {name: (grey, ":") for name, grey in zip(bases or (), BASES, strict=False)}
    columns = max(1, min(5, len(shown) + 1, int(7.5 / (0.55 + 0.08 * max(map(len, shown), default=0)))))
    rows, crowded = -(-(len(shown) + 1) // columns) if len(shown) > 1 else 0, len(histories) > MOST_TRAINING
    with rc_context(STYLE):
        figure, (losses, accuracies) = _plots(8.2, 2.9 + 0.2 * rows, 2, bottom=0.45 + 0.2 * rows)
        highest = np.zeros(2)  # losses, in training and validation
        texts = ["Learning curves."]
        for name, several in shown.items():
            colour, style = looks[name]
            training, loss, accuracy = (
                np.array([[getattr(e, field) for e in history] for history in several])
                for field in ("train_loss", "validation_loss", "validation_accuracy")
            )
            texts.append(_curve_text(name, len(several), training.mean(0), loss.mean(0), accuracy.mean(0)))
            epochs = np.arange(1, loss.shape[1] + 1)
            highest = np.maximum(highest, [training.max(), loss.max()])
            drawn: dict[str, Any] = {"color": colour, "marker": "." if len(epochs) < 3 else None}
            thin: dict[str, Any] = {"linestyle": style, "linewidth": 0.7}
            if not crowded:
                losses.plot(epochs, training.mean(0), label=f"{name} training", **thin, **drawn)
            losses.plot(epochs, loss.mean(0), linestyle=style, label=f"{name} validation", **drawn)
            accuracies.plot(epochs, 100 * accuracy.mean(0), linestyle=style, label=name, **drawn)
            if len(several) > 1 and len(histories) <= MOST_BANDS:
                for axes, values in ((losses, loss), (accuracies, 100 * accuracy)):
                    axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
            best = int(loss.mean(0).argmin())
            ring: dict[str, Any] = {"s": 45, "facecolors": "none", "edgecolors": colour, "zorder": 3}
            losses.scatter([best + 1], [loss.mean(0)[best]], **ring)
            accuracies.scatter([best + 1], [100 * accuracy.mean(0)[best]], **ring)
        if highest[1] > LEAP * highest[0]:
            losses.set_yscale("log")
        losses.set(xlabel="epoch", ylabel="loss (cross-entropy, nats)")
        accuracies.set(xlabel="epoch", ylabel="validation accuracy (%)")
        for axes in (losses, accuracies):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if rows:
            thin_line = Line2D([], [], color="#444444", linewidth=0.7, label="training loss (thin)")
            handles = [*accuracies.lines, *([] if crowded else [thin_line])]
            figure.legend(handles=handles, loc="lower center", ncols=columns, borderaxespad=0, fontsize=8.5)
        else:
            losses.legend(fontsize=8)
        panels = [_panel(losses, "loss", 4), _panel(accuracies, "validation accuracy, %", 2)]
        remark = "; losses have a logarithmic axis" if losses.get_yscale() == "log" else ""
        remark += "; of so many experiments only validation losses are drawn" if crowded else ""
        if any(len(several) > 1 for several in shown.values()):
            bands = ", bands reach from the lowest to the highest" if len(histories) <= MOST_BANDS else ""
            remark = f"; lines are means over seeds or folds{bands}{remark}"
        return render(figure, " ".join(texts), panels, remark)


def _panel(axes: Axes, label: str, digits: int) -> dict[str, Any]:
    """One plot of a figure, for whoever asks for its values: `label` says what they are.

    `box` is left, top, right, bottom as shares of the figure; `x` the limits of the x axis; `series` the value at
    epoch 1, 2, … of every line.
    """
    series = {str(line.get_label()): np.asarray(line.get_ydata()).round(digits).tolist() for line in axes.lines}
    place = axes.get_position()
    box = [round(float(v), 4) for v in (place.x0, 1 - place.y1, place.x1, 1 - place.y0)]
    return {"label": label, "box": box, "x": [round(float(v), 4) for v in axes.get_xlim()], "series": series}


def _curve_text(name: str, runs: int, training: np.ndarray, loss: np.ndarray, accuracy: np.ndarray) -> str:
    """What the lines of one experiment show: training and validation loss and accuracy, float (epochs,)."""
    mean = f" (mean of {runs} runs)" if runs > 1 else ""
    return (
        f"{name}{mean}: training loss {training[0]:.2f} to {training[-1]:.2f} over {counted(len(loss), 'epoch')}, "
        f"validation loss lowest at epoch {loss.argmin() + 1} ({loss.min():.2f}) and {loss[-1]:.2f} at the end, final "
        f"validation accuracy {percent(accuracy[-1], 2)}."
    )


def histories(runs: Sequence[RunRecord]) -> dict[str, list[list[EpochRecord]]]:
    """The runs' histories by experiment, one per seed, of experiments whose runs have equally many epochs."""
    return grouped((run.experiment, run.epochs) for run in runs)


def reliability(curve: Calibration, name: str) -> Picture:
    """Reliability curve: how often an experiment's model is right where it gives its answer a certain probability."""
    with rc_context(STYLE):
        figure, (axes,) = _plots(4.4, 3.0)
        colour, _ = appearances([name])[name]
        filled = curve.bins[curve.bins["count"] >= FEWEST_ANSWERS]  # of fewer the share that is right says little
        confidence, accuracy = filled.confidence, filled.accuracy
        axes.plot([0, 1], [0, 1], ":", color="#777777", linewidth=1.2)
        axes.plot(confidence, accuracy, color=colour, linewidth=1)
        area = 12 + 300 * filled["count"] / curve.bins["count"].sum()
        axes.scatter(confidence, accuracy, s=area, color=colour, alpha=0.6, linewidths=0)
        axes.set(xlim=(0, 1.04), ylim=(0, 1.04), xlabel="probability given to the answer", ylabel="share that is right")
        texts = [f"given {percent(c)}, {percent(a)} are right" for c, a in zip(confidence, accuracy, strict=True)]
        error = f"Reliability of {name}: expected calibration error {100 * curve.error:.1f} points"
        return render(figure, f"{'; '.join([error, *texts])}.")


def accuracy_ladder(results: Sequence[Any]) -> Picture:
    """Every experiment's accuracy with its interval, in journal order, one colour per family.

    Where the work was the original's, the original's accuracy stands beside it; rings are the other experiments.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.9 + 0.23 * len(results)), layout="constrained")
        axes = figure.subplots()
        rows = range(len(results))
        values = np.array([100 * r.accuracy for r in results])
        intervals = 100 * np.array([r.interval for r in results])
        colour_of = {family.name: COLOURS[at % len(COLOURS)] for at, family in enumerate(load_catalog().families)}
        colours = [colour_of[r.family.name] for r in results]
        axes.hlines(rows, intervals[:, 0], intervals[:, 1], colors=colours, linewidth=2.2)
        full = np.array([r.full_budget for r in results])
        originals = np.array([(r.full_budget and r.entry.reference_accuracy) or np.nan for r in results])
        faces = [colour if here else "white" for colour, here in zip(colours, full, strict=True)]
        axes.scatter(values, rows, s=26, facecolors=faces, edgecolors=colours, linewidths=1.5, zorder=3)
        axes.scatter(originals, rows, marker="|", s=90, c="#444444", linewidths=1.6, zorder=2)
        kinds: list[tuple[str, Any, dict[str, Any]]] = [
            ("full budget", full.any(), {"marker": "o", "markersize": 5}),
            ("other budget, data or parameters", not full.all(), {"marker": "o", "markersize": 5, "fillstyle": "none"}),
            ("original report", not np.isnan(originals).all(), {"marker": "|", "markersize": 9}),
        ]
        handles = [Line2D([], [], label=label, ls="", color="#444444", **look) for label, here, look in kinds if here]
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        # The whole name, however long that of a sweep is.
        entries = [r.entry for r in results]
        labels = [shorten(f"{e.id} {e.title}", max(44, len(e.id) + 1), placeholder="…") for e in entries]
        axes.set_yticks(rows, labels, parse_math=False)
        axes.set(xlabel="test accuracy (%)", ylim=(len(results) - 0.4, -0.6))
        for row, result in enumerate(results):
            if row == 0 or results[row - 1].family.name != result.family.name:
                title, where = result.family.title, ("axes fraction", "data")
                axes.annotate(title, (1.01, row), xycoords=where, va="center", fontsize=7.5, color="#444444")
        best = results[int(values.argmax())]
        return render(
            figure,
            f"Test accuracy of {len(results)} experiments with 95 % intervals, from {values.min():.2f} % to "
            f"{values.max():.2f} % ({best.entry.id}, {best.entry.title}).",
        )


def effects(comparisons: Sequence[Comparison], results: Mapping[str, Any]) -> Picture:
    """Every comparison's difference in points with its interval, the highest first; the margin is shaded."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.9 + 0.155 * len(comparisons)), layout="constrained")
        axes = figure.subplots()
        ordered, margin = sorted(comparisons, key=lambda c: -c.difference), load_catalog().margin
        axes.axvspan(-margin, margin, color="#eeeeee", linewidth=0)
        axes.axvline(0, color="#777777", linewidth=0.8)
        for answer, (colour, marker, face) in EFFECTS.items():
            if rows := [row for row, c in enumerate(ordered) if c.verdict.split()[-1] == answer]:
                middle = 100 * np.array([ordered[row].difference for row in rows])
                ends = 100 * np.array([ordered[row].interval for row in rows]).T
                look: dict[str, Any] = {"fmt": marker, "ms": 4, "lw": 1.4, "color": colour, "mfc": face}
                axes.errorbar(middle, rows, xerr=np.abs(ends - middle), label=f"{len(rows)} {answer}", **look)
        titles = [shorten(results[c.experiment].entry.title, 60, placeholder="…") for c in ordered]
        labels = [f"{title}: {c.experiment} − {c.base}" for title, c in zip(titles, ordered, strict=True)]
        axes.set_yticks(range(len(ordered)), labels, parse_math=False, fontsize=7)
        axes.set_xscale("symlog", linthresh=margin)
        (low, high), steps = axes.get_xlim(), (-20, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20)
        axes.set_xticks([step * margin for step in steps if low <= step * margin <= high])
        axes.xaxis.set(minor_locator=NullLocator(), major_formatter="{x:g}")
        axes.set(xlabel="difference, points (logarithmic beyond the margin)", ylim=(len(ordered) - 0.4, -0.6))
        figure.legend(loc="outside upper right", ncols=4)
        counts = f"{len(ordered)} comparisons with 95 % intervals: {', '.join(axes.get_legend_handles_labels()[1])}"
        return render(figure, f"{counts}; from {ordered[0]} to {ordered[-1]}.")


def accuracy_against_cost(results: Sequence[Any]) -> Picture:
    """Accuracy with its interval against the operations of a training; a line through what nothing cheaper reaches.

    Families have their colours; squares are experiments beyond the original report, and hollow points start from
    pretrained weights.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.4), layout="constrained")
        axes = figure.subplots()
        cost = [r.runs[0].training_pflop for r in results]
        for at, family in enumerate(load_catalog().families):
            label, marker, colour = family.title, "s" if family.beyond else "o", COLOURS[at % len(COLOURS)]
            for face, pretrained in ((colour, False), ("white", True)):
                of = [r for r in results if r.family.name == family.name and bool(r.runs[0].weights) is pretrained]
                if of:
                    x, y = [r.runs[0].training_pflop for r in of], 100 * np.array([r.accuracy for r in of])
                    errors = np.abs(100 * np.array([r.interval for r in of]).T - y)
                    look: dict[str, Any] = {"fmt": marker, "ms": 5, "lw": 1.2, "color": colour, "mfc": face}
                    axes.errorbar(x, y, errors, label=label, zorder=2 if family.beyond else 3, **look)
                    label = ""  # once in the legend
        front = cheapest(cost, [r.accuracy for r in results])
        corners = [(cost[at], 100 * results[at].accuracy) for at in front]
        line: dict[str, Any] = {"color": "#444444", "linewidth": 0.9, "zorder": 1}
        axes.step(*zip(*corners, strict=True), where="post", label="best at this cost or less", **line)
        left_of = 0.0  # the cost of the last name that stands to the left of its point
        for at, place in zip(front, corners, strict=True):
            if place[0] < COST_APART * left_of:  # the names would overlap
                where, align = (6, -11), "left"
            else:
                where, align, left_of = (-4, 5), "right", place[0]
            axes.annotate(results[at].entry.id, place, where, textcoords="offset points", ha=align, fontsize=7.5)
        axes.set(xscale="log", xlabel="training cost (PFLOP, logarithmic)", ylabel="test accuracy (%)")
        axes.margins(x=0.12)  # room for the first name
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)
        ends = ", ".join(
            f"{results[at].entry.id} {100 * results[at].accuracy:.1f} % for {cost[at]:.2g} PFLOP" for at in front
        )
        return render(figure, f"Test accuracy against training cost of {len(results)} experiments. The front: {ends}.")


def cheapest(cost: Sequence[float], accuracy: Sequence[float]) -> list[int]:
    """Which points no other is above for the same cost or less, cheapest first: the Pareto front."""
    order = np.lexsort((-np.array(accuracy), np.array(cost)))
    best = np.maximum.accumulate(np.array(accuracy)[order])
    return [int(at) for at in order[np.diff(best, prepend=-np.inf) > 0]]


def sweep(parameter: str, points: Sequence[tuple[float, Result]]) -> Picture:
    """Accuracy with its interval against a parameter's value; on a log scale where the values span a factor of ten."""
    with rc_context(STYLE):
        figure, (axes,) = _plots(5.2, 3.0)
        values = [value for value, _ in points]
        means = np.array([100 * result.accuracy for _, result in points])
        ends = np.array([[100 * end for end in result.interval] for _, result in points])
        axes.errorbar(values, means, np.abs(ends.T - means), fmt="o-", color=COLOURS[0], capsize=3, linewidth=1.2)
        if min(values) > 0 and max(values) >= 10 * min(values):
            axes.set_xscale("log")
        axes.set(xlabel=parameter, ylabel="test accuracy (%)")
        parts = ", ".join(f"{value:g}: {mean:.2f} %" for value, mean in zip(values, means, strict=True))
        return render(figure, f"Test accuracy against {parameter}: {parts}.")


def bars(values: Mapping[str, float], alt: str, *, label: str, log: bool = False, number: str = "{:,.3g}") -> Picture:
    """Horizontal bars, one per name, each with its value."""
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(6.6, 0.7 + 0.3 * len(values)), layout="constrained")
        axes = figure.subplots()
        drawn = axes.barh(list(values), list(values.values()), color=COLOURS[0], height=0.62)
        axes.bar_label(drawn, [number.format(v) for v in values.values()], padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.set_xscale("log" if log else "linear")
        axes.margins(x=0.14)
        axes.set(xlabel=label)
        return render(figure, alt)
