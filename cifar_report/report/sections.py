"""The report's computed parts, which the report notebook asks for one by one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args

import nbformat
from markupsafe import Markup

from cifar_report import __version__
from cifar_report.data.cache import find_images
from cifar_report.experiments.catalog import Family
from cifar_report.experiments.errors import RequestError
from cifar_report.formatting import grouped, listing, points, ranges
from cifar_report.journal import work
from cifar_report.journal.comparison import Comparison
from cifar_report.journal.diff import Side, changes, read_results
from cifar_report.journal.journal import LOCAL_WEIGHTS, Journal, Result, sweeps
from cifar_report.journal.observations import Observation, observe
from cifar_report.journal.statements import Answer, Finding, experiments_in, findings, subjects
from cifar_report.journal.statistics import calibration
from cifar_report.records.files import NOTEBOOK, RECORD
from cifar_report.records.predictions import Predictions
from cifar_report.records.record import RunRecord, now, recorded_folder, run_name
from cifar_report.report import image_grids, plots
from cifar_report.report.confusion_matrix import MOST_COLUMNS, confusion_matrix
from cifar_report.report.fragments import Fragment, figure, fragment, reference, start_numbering, table_number
from cifar_report.training.environment import git_state

NOTE = "note.md"  # in an output folder: what its owner says of the records, for their report's introduction
LADDERS = ("ladder", "ladder-beyond")  # anchors: the figure of the original's experiments, and of ours


def banner(journal: Journal, profile: str) -> Fragment:
    """What kind of report this is: profile, budgets, data, hardware, failures; the first thing to read."""
    start_numbering()
    runs = journal.records
    altered = {name: found for name, r in journal.complete.items() if (found := work.altered_parameters(r.runs[0]))}
    return fragment(
        "banner.html.j2",
        profile=profile,
        experiments=sum(bool(result.runs or result.failed) for result in journal.results.values()),
        runs=runs,
        full=sum(map(work.at_full_budget, runs)),
        less_work=any(map(work.less_work, runs)),
        journal=journal,
        left_out=_names(run for result in journal.results.values() for run in result.left_out),
        other_code=_names(run for result in journal.results.values() for run in result.other_code),
        local_weights=ranges(name for name, result in journal.complete.items() if LOCAL_WEIGHTS in result.substitutes),
        altered=altered,
        other_data=sorted({run.data.source for run in runs if run.data and run.data.name != "cifar10"}),
        warnings=[
            f"{listing(_names(of))}: {warning}" if warning.startswith("its ") else warning
            for warning, of in sorted(grouped((w, run) for run in runs for w in run.warnings).items())
        ],
        sources=sorted({(run.data.source, run.data.sha256) for run in runs if run.data}),
        devices=sorted({run.environment.device_name for run in runs if run.environment}),
        versions=sorted({f"torch {run.environment.torch}" for run in runs if run.environment}),
    )


def _names(runs: Iterable[RunRecord]) -> list[str]:
    """Experiments with their seeds: `EXP003 seeds 0, 1`, `EXP004 seeds 0-9`."""
    seeds = grouped(dict.fromkeys((run.experiment, str(run.seed)) for run in runs))  # once where runs are folds
    return [f"{name} seed{'s' if len(of) > 1 else ''} {', '.join(ranges(of))}" for name, of in seeds.items()]


def abstract(journal: Journal) -> Fragment:
    """The report in a few computed sentences: what was run, the best, what helped and what did not, what is open."""
    results = list(journal.complete.values())
    if not results:
        return fragment("note.html.j2", text="No run is complete yet.")
    entries = [r.entry for r in journal.results.values() if not r.entry.same_as]
    originals = {entry.id: entry.reference_accuracy for entry in entries if entry.reference_accuracy}
    found = {name: journal.reproduction(name) for name in originals}
    answers = grouped((of.answer, name) for name, of in found.items() if of)
    agree, unknown = answers.get("agrees", []), answers.get("too wide to tell", []) + answers.get("spread unknown", [])
    off = {answer: names for answer, names in answers.items() if answer.startswith("ours is")}
    missing = [name for name, of in found.items() if not of]
    best_figure = max(originals.values(), default=0)
    means, held_out = journal.means, all(run.data and run.data.validation != "test" for run in journal.records)
    best = max(results, key=lambda r: means.last_accuracy[r.entry.id] if held_out else r.accuracy)
    one_view = means.accuracy - (means.views_gain.fillna(0) if "views_gain" in means else 0)
    fitted = [c for c in journal.comparisons.values() if journal.results[c.experiment].entry.fitted]
    every = [] if journal.without_cifar10 else findings(journal)
    statements = [f for f in every if not f.statement.ours]
    titles = {False: "Its hypotheses and questions", True: "Our experiments on its questions"}
    of_questions = [f for f in every if f.statement.of.startswith(("Hypothesis", "Question"))]
    questions = {titles[ours]: _by_answer(f for f in of_questions if f.statement.ours is ours) for ours in titles}
    of_accuracy = [t for f in statements if f.statement.measure == "accuracy" for t in f.tested]
    return fragment(
        "abstract.html.j2",
        journal=journal,
        full=sum(result.full_budget for result in results),
        substitutes=list(dict.fromkeys(word for result in results for word in result.substitutes)),
        best=best,
        held_out=held_out,
        one_view=one_view,
        asked=_asked(journal),
        fitted=[f"{c.experiment} {points(c.difference)}" for c in fitted if c.changed],
        judged=sum(map(len, [agree, *off.values()])),
        repeated=[name for name, result in journal.complete.items() if result.entry.same_as],
        agree=len(agree),
        off={answer: listing(names) for answer, names in off.items()},
        unknown=unknown and listing(unknown),
        missing=missing and listing(ranges(missing)),
        questions={title: of for title, of in questions.items() if of.keys() - {"open", "cannot be tested"}},
        open_pairs=[sorted(t.names) for t in of_accuracy if t.answer == "open"],
        best_missing=best_figure if best_figure in map(originals.get, missing) else None,
        answers=_by_answer(statements),
        expected=_by_answer(f for f in every if f.statement.ours and _on_record(f, journal)),
        lacking=sum(f.lacks_runs for f in statements),
    )


def _on_record(finding: Finding, journal: Journal) -> bool:
    """Whether all experiments of a contrast are on record, or one that a bound is about."""
    return any(experiments_in(part) <= journal.complete.keys() for part in subjects(finding.statement))


def _by_answer(found: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings by their answer, in the order of `Answer`."""
    answers = grouped((f.answer, f) for f in found)
    return {answer: answers[answer] for answer in get_args(Answer) if answer in answers}


def results_at_a_glance(journal: Journal) -> Fragment:
    """What each change does, and every experiment's accuracy, in pictures and one table."""
    results = list(journal.complete.values())
    if not results:
        return fragment("note.html.j2", text="No run is complete yet, so there are no results to show.")
    ranked = [c for c in _asked(journal) if c.verdict.split()[-1] in plots.EFFECTS]
    caption = "What each change does to the accuracy: differences with their 95 % intervals, shaded up to the margin; "
    caption += f"each experiment is compared with the one that it builds on (Table {table_number('results')})."
    return fragment(
        "results.html.j2",
        effects=figure(plots.effects(ranked, journal.complete), caption, "effects") if ranked else "",
        ladders=[_ladder(part, beyond) for beyond, part in grouped((r.family.beyond, r) for r in results).items()],
        results=results,
        sizes=sorted({run.data.train_size for run in journal.records if run.data}),
        one_device=len({run.environment.device_name for run in journal.records if run.environment}) == 1,
        local=LOCAL_WEIGHTS,
        comparisons=journal.comparisons,
        reproductions={r.entry.id: journal.reproduction(r.entry.id) for r in results},
    )


def _asked(journal: Journal) -> list[Comparison]:
    """The comparisons that ask something: not of equal parameters, nor of what was fitted to the original's curves."""
    return [c for c in journal.comparisons.values() if c.changed and not journal.results[c.experiment].entry.fitted]


def _ladder(results: Sequence[Result], beyond: bool) -> Fragment:
    full = [result.full_budget for result in results]
    which = "beyond the original report" if beyond else "of the original's families"
    caption = f"Test accuracy of every experiment on record {which}, with {_intervals(results)}, one colour per family"
    if any(full) and not beyond:
        caption += "; bars mark the original report" + ("" if all(full) else ", where the work was the same")
    if not all(full):
        other = "another budget" if beyond else "other parameters, data or weights than the original"
        caption += f"; rings mark {other}"
    return figure(plots.accuracy_ladder(results), f"{caption}.", LADDERS[beyond])


def _intervals(results: Iterable[Result]) -> str:
    """What the lines of a figure show."""
    of_folds = any(result.interval_kind.startswith("range") for result in results)
    return "95 % intervals" + (" (of folds, the range of their runs)" if of_folds else "")


def cost_figure(journal: Journal) -> Fragment:
    """What accuracy costs, of the experiments that saw CIFAR-10 at full budget or else of all."""
    costed = [result for result in journal.complete.values() if result.runs[0].training_pflop]
    full = [result for result in costed if result.full_budget]
    shown = full if len(full) > 1 else costed
    if len(shown) < 2:
        return fragment("note.html.j2", text="Fewer than two experiments have a training cost on record.")
    of = f"{len(shown)} experiments" + (" at full budget" if shown != costed else "")
    caption = (
        f"Test accuracy and training cost of {of}, with {_intervals(shown)}; squares are experiments beyond the "
        "original report; hollow points start from ImageNet weights, whose own training is not counted. One PFLOP is "
        "10^15 floating point operations: those of forward and backward passes over the training images. Kernel "
        "positions that see only padding do not count, and a frozen part counts once. Operations are not time, which "
        "also depends on the network, the precision and the machine. Some of ours score several views of an image."
    )
    return figure(plots.accuracy_against_cost(shown), caption, "cost")


def dataset_figure(journal: Journal) -> Fragment:
    """A picture of the classes from the very images the runs used, where this machine has them."""
    digests = {run.data.sha256 for run in journal.records if run.data}
    images = next(filter(None, map(find_images, sorted(digests))), None)
    if images is None:
        return fragment("note.html.j2", text="There is no picture of the data here: this machine does not have it.")
    picture = image_grids.classes_grid(images.pixels, images.labels[: images.train_size], images.classes)
    of = "each class" if len(images.classes) <= MOST_COLUMNS else f"the first {MOST_COLUMNS} classes"
    return figure(picture, f"Up to three training images of {of} ({images.source}).", "classes")


def protocol(journal: Journal) -> Fragment:
    """Which images chose what, and what that means for the figures; computed from the runs."""
    rows = grouped((data.validation, n) for n, r in journal.complete.items() if (data := r.runs[0].data))
    note = journal.output_dir / NOTE
    text = _markdown(note.read_text(encoding="utf-8", errors="replace")) if note.is_file() else ""
    return fragment("protocol.html.j2", rows=rows, note=text)


def family_section(family: Family, journal: Journal) -> Fragment:
    """One family of the journal: facts, motivation, results, curves, and observations."""
    results = journal.family_results(family.name)
    complete = [result for result in results if result.runs]
    runs, failures = journal.family_runs(family.name), [run for result in results for run in result.failed]
    built_on = sorted({r.entry.builds_on or "" for r in results} - {"", *(r.entry.id for r in results)})
    curves = learning = None
    if complete:
        epochs = {len(run.epochs) for run in runs}
        bases = [b for name in built_on if (b := journal.complete.get(name)) and len(b.runs[0].epochs) in epochs]
        dotted = plots.histories([run for base in bases[: len(plots.BASES)] for run in base.runs])
        picture = plots.learning_curves(plots.histories(runs), dotted)
        of_bases = f"; dotted, for comparison: {listing(dotted)}" if dotted else ""
        caption = (
            f"{family.title}: training and validation loss, and validation accuracy; rings mark the epoch with the "
            f"lowest validation loss{picture.remark}{of_bases}."
        )
        curves = figure(picture, caption, f"curves-{family.name}")
        learning = fragment(
            "learning.html.j2",
            family=family,
            rows=[(result, journal.means.loc[result.entry.id]) for result in complete],
            comparisons=journal.comparisons,
        )
    swept = [
        figure(
            plots.sweep(parameter, points),
            f"{base} with other values of {parameter}: test accuracy with {_intervals(r for _, r in points)}.",
            f"sweep-{base}-{parameter}",
        )
        for base, parameter, points in sweeps(journal, family.name)
    ]
    return fragment(
        "family.html.j2",
        family=family,
        results=results,
        complete=complete,
        started=min((run.started_at for run in [*runs, *failures]), default=None),
        finished=max((run.finished_at for run in [*runs, *failures]), default=None),
        datasets=sorted({_dataset_text(run) for run in runs}),
        history=built_on,
        linked=journal.results,
        motivation=motivation(family),
        curves=curves,
        learning=learning,
        swept=swept,
        observations=_observations(family, journal, of_classes=False),
        absent=[result for result in results if not result.runs and not result.failed],
        notebook_link=partial(notebook_link, journal.output_dir),
    )


def appendix(journal: Journal) -> Fragment:
    """Every complete experiment in detail: classes, calibration, mistakes, and the provenance of its runs."""
    families = [
        (family, [_detail(r) for r in results if r.runs], _observations(family, journal, of_classes=True))
        for family, results in journal.families()
        if any(result.runs for result in results)
    ]
    return fragment("appendix.html.j2", families=families)


def _observations(family: Family, journal: Journal, *, of_classes: bool) -> list[tuple[Observation, Markup]]:
    """Those that speak of classes, for the appendix, or the others; each with links to what shows it."""
    found = observe(journal.family_results(family.name), journal)
    return [(o, _shown_in(o, family)) for o in found if (o.topic in ("Classes", "Confusions")) is of_classes]


def _shown_in(observation: Observation, family: Family) -> Markup:
    """Links to the figures and tables that show an observation."""
    named = {name: f"{name}-{family.name}" for name in ("curves", "learning")} | {"ladder": LADDERS[family.beyond]}
    links = [reference(named.get(name) or f"confusion-{name}", f"classes of {name}") for name in observation.shown_by]
    return Markup(", ").join(filter(None, links))


def _detail(result: Result) -> Fragment:
    """An experiment's classes, calibration and most confident mistakes, and how to run it again."""
    name = result.entry.id
    found = [(run, predictions) for run in result.runs if (predictions := result.predictions(run))]
    confusion = reliability = mistakes = None
    if found:  # one seed's: answers of several to the same images are no larger sample
        run, predictions = found[0]
        assert run.data is not None  # a complete run has data
        which = run_name(f"{name},", run.parameters) if len(result.runs) > 1 else name
        number, counts = table_number(f"confusion-{name}"), predictions.confusion_matrix()
        columns = "; rows are labels, columns what the model took them for" if len(counts) <= MOST_COLUMNS else ""
        caption = Markup("<b>Table {}.</b> {}: classes{}.").format(number, which, columns)
        confusion = confusion_matrix(counts, run.data.class_names, caption)
        curve = calibration(predictions.confidence, predictions.correct)
        reliability = figure(
            plots.reliability(curve, name),
            f"{which}: calibration: the share of right answers, by the probability that the model gave them (dotted: "
            f"perfect calibration; larger points: more answers, at least ten). Expected calibration error "
            f"{100 * curve.error:.1f} points (15 bins).",
            f"reliability-{name}",
        )
        mistakes = _mistakes(which, run, predictions)
    return fragment(
        "detail.html.j2",
        name=name,
        result=result,
        confusion=confusion,
        reliability=reliability,
        mistakes=mistakes,
        run=result.runs[-1],  # all did the same work; the last knows the youngest parameters
        changed=work.changed_parameters(result.runs[-1]),
        command=work.reproduce_command(result.runs, result.family),
        notebook_link=partial(notebook_link, result.output_dir),
    )


def _mistakes(which: str, run: RunRecord, predictions: Predictions) -> Fragment | None:
    """The most confident mistakes of a run, where this machine has the images."""
    assert run.data is not None  # a complete run has data
    images = find_images(run.data.sha256)
    if images is None or predictions.correct.all():
        return None
    answered = images.pixels[images.train_size :]
    if len(predictions.index) < len(answered):
        answered = answered[predictions.index]
    grid = image_grids.confident_mistakes(answered, predictions, images.classes)
    caption = f"{which}: the wrong answers it was surest of: label, answer, probability."
    return figure(grid, caption, f"wrong-{run.experiment}")


def motivation(family: Family) -> Markup:
    """The motivation as the family's notebook tells it: its cells tagged `motivation`."""
    notebook = nbformat.read(family.notebook_path, as_version=4)
    cells = [cell.source for cell in notebook.cells if "motivation" in cell.metadata.get("tags", [])]
    return _markdown("\n\n".join(cells))


def _markdown(text: str) -> Markup:
    """Markdown as HTML. What is HTML in it is shown as text, and pictures are left out: a report loads nothing."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    page = MarkdownWithMath(renderer=IPythonRenderer(escape=True)).render(text)
    return Markup(re.sub("<img[^>]*>", "", page))  # noqa: S704 - escaped


def statement_table(journal: Journal, *, ours: bool = False) -> Fragment:
    """What the original report says, or what we expected beyond it, and what these records say of it.

    What we expected of experiments without a record is counted, not listed.
    """
    if journal.without_cifar10:
        text = "These statements are about CIFAR-10, and no run here is on it."
        return fragment("note.html.j2", text=text, anchor="questions" if ours else "statements")
    every = [finding for finding in findings(journal) if finding.statement.ours is ours]
    found = [f for f in every if not ours or _on_record(f, journal)]
    if not found:
        return fragment("note.html.j2", text="None of these statements is about experiments on record here.")
    return fragment(
        "statements.html.j2",
        findings=found,
        answers=_by_answer(found),
        lacking=sum(finding.lacks_runs for finding in found),
        ours=ours,
        waiting=len(every) - len(found),
    )


def citation(journal: Journal) -> Fragment:
    """How to cite the report: the code that wrote it, and the records it rests on by their digest."""
    runs, (commit, changed) = journal.records, git_state()
    # In the order of the table of results, each experiment's by seed.
    records = b"".join((recorded_folder(journal.output_dir, run) / RECORD).read_bytes() for run in runs)
    return fragment(
        "citation.html.j2",
        journal=journal,
        version=__version__,
        commit=commit,
        changed=changed,
        year=max((run.finished_at for run in runs), default=now())[:4],
        digest=hashlib.sha256(records).hexdigest(),
    )


def changed_since_last(journal: Journal, seeds: Sequence[int] = ()) -> Fragment:
    """What differs from the report that lies below the journal's folder, over the experiments and seeds of this one."""
    table = journal.output_dir / "report" / "results.csv"
    if not table.is_file():
        return fragment("note.html.j2", text="This is the first report here.")
    since = datetime.fromtimestamp(int(table.stat().st_mtime), UTC).isoformat()
    try:
        rows = read_results(table)
    except RequestError as error:
        return fragment("note.html.j2", text=f"This report cannot be compared with the last one: {error}.")
    last = {of: row for of, row in rows.items() if of[0] in journal.results and (not seeds or of[1] in seeds)}
    return fragment("changes.html.j2", changes=changes(Side(last), Side.of(journal)), since=since)


def notebook_link(output_dir: Path, run: RunRecord) -> str | None:
    """Where the report keeps a run's executed notebook, as HTML; `None` where the run has left no notebook."""
    if not (recorded_folder(output_dir, run) / NOTEBOOK).is_file():
        return None
    return f"notebooks/{run.experiment.lower()}-{recorded_folder('', run).name}.html"


def _dataset_text(run: RunRecord) -> str:
    data = run.data
    assert data is not None  # a complete run has data
    validation = {
        "test": "the test images",
        "holdout": f"{data.validation_size:,} held-out training images",
        "fold": f"a fold of {data.validation_size:,} training images",
    }[data.validation]
    images = f"{data.train_size:,} training and {data.test_size:,} test images"
    return f"{data.name}, {data.source}: {images}, validated on {validation}"
