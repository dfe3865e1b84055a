"""The report's computed parts as HTML fragments. Jinja2 escapes every text that comes from a run or a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cifar_report.catalog import Family, load_catalog
from cifar_report.data.cache import find_cached
from cifar_report.record import RunRecord
from cifar_report.report import figures
from cifar_report.report.figures import Picture
from cifar_report.report.journal import Journal, Result, at_full_budget, changed_parameters
from cifar_report.report.observations import observe, p_text, verdicts

TEMPLATES = Path(__file__).parent / "templates"
NOTEBOOK_FOLDER = "notebooks"  # executed notebooks as HTML, beside report.html


class Fragment:
    """A piece of HTML that a notebook displays as such."""

    def __init__(self, html: str) -> None:
        self.html = html

    def _repr_html_(self) -> str:
        return self.html


def banner(journal: Journal, profile: str) -> Fragment:
    """What kind of report this is: profile, budgets, data, hardware, failures; the first thing to read."""
    runs = [run for result in journal.complete.values() for run in result.runs]
    full = [run for run in runs if at_full_budget(run)]
    return _render(
        "banner.html.j2",
        profile=profile,
        planned=len(journal.results),
        runs=runs,
        full=len(full),
        failures=journal.failures,
        left_out=[run for result in journal.results.values() for run in result.left_out],
        not_cifar10=any(run.data and run.data.name != "cifar10" for run in runs),
        warnings=sorted({warning for run in runs for warning in run.warnings}),
        sources=sorted({(run.data.source, run.data.sha256) for run in runs if run.data}),
        devices=sorted({run.environment.device_name for run in runs if run.environment}),
        versions=sorted({f"torch {run.environment.torch}" for run in runs if run.environment}),
        hours=sum(run.seconds.total for run in runs) / 3600,
    )


def dataset_figure(journal: Journal) -> Fragment:
    """A picture of the classes from the very images the runs used, as this machine's cache keeps them."""
    digests = {run.data.sha256 for result in journal.complete.values() for run in result.runs if run.data}
    found = [images for digest in sorted(digests) if (images := find_cached(digest))]
    if not found:
        return _render("note.html.j2", text="There is no picture of the data here: this machine does not have it.")
    images = found[0]
    picture = figures.classes_grid(images.pixels, images.labels[: images.train_size], images.classes)
    return figure(picture, f"Three training images of each class ({images.source}).")


def protocol(journal: Journal) -> Fragment:
    """Which images validated, and what that means for the figures; computed from the runs."""
    runs = [run for result in journal.complete.values() for run in result.runs]
    kinds = sorted({run.data.validation for run in runs if run.data})
    return _render("protocol.html.j2", kinds=kinds)


def headline(journal: Journal) -> Fragment:
    """Every experiment's accuracy in one picture and one table."""
    results = list(journal.complete.values())
    if not results:
        return _render("note.html.j2", text="No run is complete yet, so there are no results to show.")
    everything_full = all(at_full_budget(run) for result in results for run in result.runs)
    ladder = figure(
        figures.accuracy_ladder(results, reference=everything_full),
        "Test accuracy of every experiment with its 95 % interval, coloured by family"
        + ("; bars mark the original report." if everything_full else "."),
    )
    return Fragment(ladder.html + _results_table(journal, results, "Results of all experiments.").html)


def family_section(family: Family, journal: Journal) -> Fragment:
    """One family of the journal: header table, motivation, results, curves, observations, provenance."""
    results = journal.family_results(family.name)
    complete = [result for result in results if result.runs]
    runs = [run for result in complete for run in result.runs]
    curves = None
    if complete:
        curves = figure(
            figures.learning_curves(figures.histories(runs)),
            f"{family.title}: training and validation loss, and validation accuracy; "
            "rings mark the epoch with the lowest validation loss.",
        ).html
    entries = load_catalog().entries
    return _render(
        "family.html.j2",
        family=family,
        results=results,
        complete=complete,
        started=min((run.started_at for run in runs), default=None),
        finished=max((run.finished_at for run in runs), default=None),
        datasets=sorted({_dataset_text(run) for run in runs}),
        history=sorted({entries[r.entry.id].builds_on or "" for r in results} - {""}),
        motivation=motivation(family),
        curves=Markup(curves) if curves else None,  # noqa: S704 - made by our own template
        table=Markup(_results_table(journal, complete, f"{family.title}: results.").html) if complete else None,  # noqa: S704
        observations=observe(results, journal),
        failures=[run for result in results for run in result.failed],
        at_full_budget=at_full_budget,
        notebook_link=notebook_link,
        changed_parameters=changed_parameters,
    )


def motivation(family: Family) -> Markup:
    """The motivation as the family's notebook tells it: its cells tagged `motivation`."""
    from nbconvert.filters import markdown2html

    notebook = nbformat.read(family.notebook_path, as_version=4)
    cells = [cell.source for cell in notebook.cells if "motivation" in cell.metadata.get("tags", [])]
    return Markup(markdown2html("\n\n".join(cells)))  # noqa: S704 - text of our own notebooks


def verdict_table(journal: Journal) -> Fragment:
    """Claims and hypotheses with what these data say of them."""
    return _render("verdicts.html.j2", verdicts=verdicts(journal))


def general_notes(journal: Journal) -> Fragment:
    """Range of the results and what it took."""
    results = list(journal.complete.values())
    ranked = sorted(results, key=lambda r: r.accuracy)
    runs = [run for result in results for run in result.runs]
    return _render(
        "notes.html.j2",
        lowest=ranked[0] if ranked else None,
        highest=ranked[-1] if ranked else None,
        runs=runs,
        experiments=len(results),
        hours=sum(run.seconds.total for run in runs) / 3600,
        images=sum(run.data.train_size * len(run.epochs) for run in runs if run.data),
        failures=journal.failures,
    )


def results_frame(journal: Journal) -> pd.DataFrame:
    """One row a run, completed or failed: what `results.csv` holds. Accuracies are percentages."""
    rows = []
    for result in journal.results.values():
        for run in (*result.runs, *result.failed):
            comparison = journal.comparisons.get(run.experiment)
            low, high = result.interval if result.runs else (float("nan"), float("nan"))
            rows.append(
                {
                    "experiment": run.experiment,
                    "family": run.family,
                    "title": result.entry.title,
                    "seed": run.seed,
                    "status": run.status,
                    "accuracy": 100 * run.test.accuracy if run.test else None,
                    "correct": run.test.correct if run.test else None,
                    "test_images": run.test.total if run.test else None,
                    "mean_accuracy": 100 * result.accuracy if result.runs else None,
                    "interval_low": 100 * low,
                    "interval_high": 100 * high,
                    "interval": result.interval_kind if result.runs else None,
                    "reference_accuracy": result.entry.reference_accuracy,
                    "full_budget": at_full_budget(run) if run.status == "completed" else None,
                    "builds_on": result.entry.builds_on,
                    "difference": 100 * comparison.difference if comparison else None,
                    "p_holm": comparison.p if comparison else None,
                    "verdict": comparison.verdict if comparison else None,
                    "epochs": len(run.epochs) or None,
                    "best_epoch": run.best_epoch,
                    "parameters": run.model.parameters if run.model else None,
                    "trainable_parameters": run.model.trainable_parameters if run.model else None,
                    "train_images": run.data.train_size if run.data else None,
                    "train_seconds": run.seconds.train,
                    "dataset": run.data.name if run.data else None,
                    "data_source": run.data.source if run.data else None,
                    "device": run.environment.device_name if run.environment else None,
                    "error": f"{run.error.type}: {run.error.message}" if run.error else None,
                    "key": run.key,
                }
            )
    return pd.DataFrame(rows)


def family_frame(journal: Journal, family: str) -> pd.DataFrame:
    """The family's complete runs side by side, for a notebook to show. Accuracies are percentages."""
    rows = [
        {
            "experiment": run.experiment,
            "seed": run.seed,
            "accuracy (%)": round(100 * run.test.accuracy, 2),
            "epochs": len(run.epochs),
            "best epoch": run.best_epoch,
            "training images": run.data.train_size,
            "training (s)": round(run.seconds.train, 1),
        }
        for run in journal.family_runs(family)
        if run.test and run.data
    ]
    return pd.DataFrame(rows).set_index(["experiment", "seed"])


def notebook_link(run: RunRecord) -> str:
    """Where the report keeps a run's executed notebook, as HTML."""
    return f"{NOTEBOOK_FOLDER}/{run.experiment.lower()}-seed-{run.seed}.html"


_numbers = {"figure": 0}


def figure(picture: Picture, caption: str) -> Fragment:
    """A picture with its numbered caption."""
    _numbers["figure"] += 1
    return _render(
        "figure.html.j2",
        number=_numbers["figure"],
        image=Markup(picture.html()),  # noqa: S704 - escaped where it is made
        caption=caption,
    )


def _results_table(journal: Journal, results: Sequence[Result], caption: str) -> Fragment:
    compared = [journal.comparisons[r.entry.id] for r in results if r.entry.id in journal.comparisons]
    return _render(
        "results.html.j2",
        results=results,
        comparisons=journal.comparisons,
        unlike=any(comparison.caveat for comparison in compared),
        caption=caption,
        at_full_budget=at_full_budget,
        notebook_link=notebook_link,
    )


def _dataset_text(run: RunRecord) -> str:
    if run.data is None:
        return "unknown"
    validation = {
        "test": "validated on the test images",
        "holdout": f"validated on {run.data.validation_size:,} held-out training images",
        "fold": f"validated on a fold of {run.data.validation_size:,} training images",
    }[run.data.validation]
    return (
        f"{run.data.name}, {run.data.source}: {run.data.train_size:,} training and {run.data.test_size:,} test images, "
        f"{validation}"
    )


def _render(template: str, **values: object) -> Fragment:
    return Fragment(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES / "fragments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda fraction: f"{100 * fraction:.2f}"
    environment.filters["points"] = lambda fraction: f"{100 * fraction:+.2f}"
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["p_value"] = p_text
    environment.filters["duration"] = _duration
    environment.filters["moment"] = lambda text: datetime.fromisoformat(text).strftime("%d %B %Y, %H:%M UTC")
    return environment


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
