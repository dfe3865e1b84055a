"""Figures: each a picture with a text that says what it shows.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; line styles tell them apart in grey.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cifar_report.record import EpochRecord, RunRecord

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES: tuple[Any, ...] = ("-", "--", "-.", (0, (6, 1, 1, 1, 1, 1)))
STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "cifar-report",  # the same figure is the same bytes
}


@dataclass(frozen=True)
class Picture:
    """A rendered figure: PNG at twice its width, and the text that says what it shows."""

    png: bytes
    width: int
    alt: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        data = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        return data, {"image/png": {"width": self.width, "alt": self.alt}}

    def html(self) -> str:
        """An `<img>` with the picture inside."""
        data = base64.b64encode(self.png).decode()
        alt = html.escape(self.alt, quote=True)
        return f'<img src="data:image/png;base64,{data}" width="{self.width}" alt="{alt}">'


def render(figure: Figure, alt: str) -> Picture:
    """Render a figure to a picture; 100 pixels an inch on screen."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return Picture(_fewer_colours(stream.getvalue()), round(figure.get_figwidth() * 100), alt)


def _fewer_colours(png: bytes) -> bytes:
    """The same picture with a palette of 256 colours, a third of the size; photographs keep theirs."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    if image.getcolors(maxcolors=20_000) is not None:
        image = image.quantize(256, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def image_grid(
    images: np.ndarray, titles: Sequence[str], alt: str, *, columns: int = 10, size: float = 0.82
) -> Picture:
    """Images (uint8, (N, 3, H, W)) in rows, each under its title; where there are none, `alt` as text."""
    with rc_context(STYLE):
        if len(images) == 0:
            figure = Figure(figsize=(columns * size, 0.5))
            figure.text(0.01, 0.5, alt, va="center")
            return render(figure, alt)
        rows = -(-len(images) // columns)
        lines = max((title.count("\n") + 1 for title in titles if title), default=0)
        tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.02, hspace=0, wspace=0)
        figure = Figure(figsize=(columns * size, rows * (size + 0.16 * lines + 0.04)), layout=tight)
        for index in range(rows * columns):
            axes = figure.add_subplot(rows, columns, index + 1)
            axes.set_axis_off()
            if index < len(images):
                axes.imshow(images[index].transpose(1, 2, 0), interpolation="nearest")
                axes.set_title(titles[index], fontsize=7, pad=2)
        return render(figure, alt)


def classes_grid(pixels: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, per_class: int = 3) -> Picture:
    """The first images (uint8, (N, 3, 32, 32)) of every class, a column each."""
    members = [np.flatnonzero(labels == label)[:per_class] for label in range(len(classes))]
    blank = np.full((1, *pixels.shape[1:]), 255, dtype=np.uint8)  # where a class has fewer
    cells = [
        pixels[column[row]][None] if row < len(column) else blank for row in range(per_class) for column in members
    ]
    titles = [*classes, *[""] * (len(classes) * (per_class - 1))]
    alt = f"Up to {per_class} training images of each class: {', '.join(classes)}."
    return image_grid(np.concatenate(cells), titles, alt, columns=len(classes))


def learning_curves(histories: Mapping[str, Sequence[EpochRecord]]) -> Picture:
    """Losses (training and validation) and validation accuracy against the epoch, one colour a history.

    The epoch with the lowest validation loss carries a ring.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.1), layout="constrained")
        losses, accuracies = figure.subplots(1, 2)
        for index, (name, history) in enumerate(histories.items()):
            colour = COLOURS[index % len(COLOURS)]
            style = STYLES[index % len(STYLES)]
            epochs = [e.epoch for e in history]
            marker = "." if len(epochs) < 3 else None
            losses.plot(
                epochs, [e.train_loss for e in history], ":", color=colour, marker=marker, linewidth=1.2,
                alpha=0.75, label=f"{name} training",
            )  # fmt: skip
            losses.plot(
                epochs, [e.validation_loss for e in history], linestyle=style, color=colour, marker=marker,
                label=f"{name} validation",
            )  # fmt: skip
            accuracies.plot(
                epochs,
                [100 * e.validation_accuracy for e in history],
                linestyle=style,
                color=colour,
                marker=marker,
                label=name,
            )
            best = min(history, key=lambda e: e.validation_loss)
            ring = {"s": 45, "facecolors": "none", "edgecolors": colour, "zorder": 3}
            losses.scatter([best.epoch], [best.validation_loss], **ring)
            accuracies.scatter([best.epoch], [100 * best.validation_accuracy], **ring)
        losses.set(xlabel="epoch", ylabel="loss (cross-entropy, nats)")
        accuracies.set(xlabel="epoch", ylabel="validation accuracy (%)")
        for axes in (losses, accuracies):
            axes.xaxis.get_major_locator().set_params(integer=True)
        if len(histories) == 1:
            losses.legend(fontsize=8)
        else:
            handles = [line for line in losses.lines if str(line.get_label()).endswith("validation")]
            training = next(line for line in losses.lines if str(line.get_label()).endswith("training"))
            figure.legend(
                [*handles, training],
                [*(str(h.get_label()).removesuffix(" validation") for h in handles), "training loss (dotted)"],
                loc="outside lower center",
                ncols=min(5, len(handles) + 1),
            )
        return render(figure, "Learning curves. " + " ".join(_curve_text(n, h) for n, h in histories.items()))


def _curve_text(name: str, history: Sequence[EpochRecord]) -> str:
    best, last = min(history, key=lambda e: e.validation_loss), history[-1]
    return (
        f"{name}: training loss {history[0].train_loss:.2f} to {last.train_loss:.2f} over {len(history)} epochs, "
        f"validation loss lowest at epoch {best.epoch} ({best.validation_loss:.2f}) and {last.validation_loss:.2f} "
        f"at the end, final validation accuracy {last.validation_accuracy:.2%}."
    )


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> Picture:
    """Counts (10, 10), rows are labels and columns predictions, shaded by the row's share."""
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(6.0, 5.2), layout="constrained")
        axes = figure.subplots()
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", fontsize=7, color="white" if dark else "#333333"
            )
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        axes.set(xlabel="predicted", ylabel="label")
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label="share of the label's images", shrink=0.8)
        off = counts - np.diag(np.diag(counts))
        worst = np.unravel_index(off.argmax(), off.shape)
        return render(
            figure,
            f"Confusion matrix. {np.trace(counts):,} of {counts.sum():,} images are right; most frequent mistake: "
            f"{off[worst]:,} images of {classes[worst[0]]} taken for {classes[worst[1]]}.",
        )


def confident_mistakes(dataset: Any, evaluation: Any, *, count: int = 10) -> Picture:
    """The wrong answers the model was surest of, each with label, prediction and probability."""
    mistakes = evaluation.confident_mistakes(count)
    positions = [position for position, _, _ in mistakes]
    images = dataset.test.images[positions].cpu().numpy()
    names = dataset.classes
    labels = [names[int(evaluation.labels[position])] for position in positions]
    titles = [
        f"{label}\nnot {names[predicted]}\n{probability:.0%}"
        for label, (_, predicted, probability) in zip(labels, mistakes, strict=True)
    ]
    told = "; ".join(
        f"{label} taken for {names[predicted]} ({probability:.0%})"
        for label, (_, predicted, probability) in zip(labels, mistakes, strict=True)
    )
    return image_grid(images, titles, f"Most confident mistakes: {told or 'none'}.", columns=min(10, max(1, count)))


def accuracy_ladder(results: Sequence[Any], *, reference: bool) -> Picture:
    """Every experiment's accuracy with its interval, in journal order; optionally the original's beside it."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.9 + 0.23 * len(results)), layout="constrained")
        axes = figure.subplots()
        rows = range(len(results))
        values = np.array([100 * r.accuracy for r in results])
        intervals = 100 * np.array([r.interval for r in results])
        families = list(dict.fromkeys(r.family.name for r in results))
        colours = [COLOURS[families.index(r.family.name) % len(COLOURS)] for r in results]
        axes.hlines(rows, intervals[:, 0], intervals[:, 1], colors=colours, linewidth=2.2)
        axes.scatter(values, rows, c=colours, s=24, zorder=3, label="this journal, with its 95 % interval")
        if reference:
            original = [r.entry.reference_accuracy or np.nan for r in results]
            axes.scatter(
                original, rows, marker="|", s=90, c="#444444", linewidths=1.6, zorder=2, label="original report"
            )
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        axes.set_yticks(rows, [f"{r.entry.id}  {r.entry.title}" for r in results])
        axes.invert_yaxis()
        axes.set(xlabel="test accuracy (%)")
        best = results[int(values.argmax())]
        return render(
            figure,
            f"Test accuracy of {len(results)} experiments with 95 % intervals, from {values.min():.2f} % to "
            f"{values.max():.2f} % ({best.entry.id}, {best.entry.title}).",
        )


def histories(runs: Sequence[RunRecord]) -> dict[str, list[EpochRecord]]:
    """Histories by name: the experiment, and the seed where an experiment has several."""
    several = len({run.experiment for run in runs}) < len(runs)
    return {f"{run.experiment} seed {run.seed}" if several else run.experiment: run.epochs for run in runs}


def bars(values: Mapping[str, float], alt: str, *, label: str, log: bool = False, number: str = "{:,.3g}") -> Picture:
    """Horizontal bars, one a name, each with its value."""
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


def layer_spreads(activations: Mapping[str, float], gradients: Mapping[str, float]) -> Picture:
    """Standard deviation of each layer's activations and weight gradients at the first step, on log scales."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.6), layout="constrained")
        for axes, values, label in zip(
            figure.subplots(1, 2),
            (activations, gradients),
            ("spread of activations", "spread of weight gradients"),
            strict=True,
        ):
            axes.plot(list(values), [max(v, 1e-12) for v in values.values()], "o-", color=COLOURS[0])
            axes.set_yscale("log")
            axes.set(ylabel=f"{label} (std)", xlabel="layer, from input to output")
        first, last = next(iter(activations)), list(activations)[-1]
        return render(
            figure,
            f"Spread per layer at the first step: activations {activations[first]:.2g} in {first} to "
            f"{activations[last]:.2g} in {last}; gradients {gradients[first]:.2g} to {gradients[last]:.2g}.",
        )
