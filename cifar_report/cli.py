"""The command `cifar-report`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from typer.core import TyperGroup

from cifar_report import __version__
from cifar_report.experiments.catalog import load_catalog, load_experiment, packaged_folder, parse_overrides, profiles
from cifar_report.experiments.errors import RequestError, unknown
from cifar_report.experiments.schema import Experiment, full_name, shown
from cifar_report.formatting import counted, duration, listing, number, p_text, points

if TYPE_CHECKING:  # what is slow to import is imported by the commands that need it
    from cifar_report.execution.plan import PlannedRun

DONE, RUN_FAILED, REQUEST_WRONG, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 a run failed, 2 the request was wrong, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A minus sign in a file of Windows, say; a line at once also where it goes into a file.
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        app(arguments, prog_name="cifar-report")
    except SystemExit as end:
        return int(end.code or DONE)
    return DONE


class Commands(TyperGroup):
    """The commands. Each returns its exit code, or `None` for 0; an error becomes a line on stderr and an exit code."""

    def invoke(self, ctx: typer.Context) -> NoReturn:  # type: ignore[override]
        """Run the command that was called, then raise `typer.Exit` with its exit code."""
        try:
            code = super().invoke(ctx) or DONE
        except KeyboardInterrupt:
            print("\ncifar-report: interrupted; the same command continues with the remaining runs", file=sys.stderr)
            code = INTERRUPTED
        except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
            sys.stderr.close()
            code = DONE if ctx.invoked_subcommand in ("list", "parameters", "show", "status") else RUN_FAILED
        except (RequestError, OSError) as error:
            print(f"cifar-report: {error}", file=sys.stderr)
            code = REQUEST_WRONG
        raise typer.Exit(code)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Names = Annotated[list[str] | None, typer.Argument(metavar="EXPERIMENT", help="EXP003, EXP003-EXP006; default: all")]
Profile = Annotated[
    str | None,
    typer.Option(
        help="quick, reference or full; default: full with a GPU, else quick; status, verify and report --no-run take "
        "that of --output"
    ),
]
Seeds = Annotated[str | None, typer.Option(help="0,1,2 or 0-9; default: 0; for show and report --no-run: all")]
Output = Annotated[
    Path | None,
    typer.Option(
        callback=lambda path: path and path.expanduser(),
        help="folder for runs/ and report/; default: outputs/<profile>, for doctor: outputs",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="set a parameter; repeat it, or give pairs: 'epochs=3 lr=0.01'"),
]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="runs at a time; default: as many as GPUs or cluster have room for, else two")
]
RunsPerGpu = Annotated[int, typer.Option(min=1, help="runs that share a GPU")]
Executor = Annotated[Literal["local", "ray"], typer.Option(help="where runs are executed")]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Ray cluster to use; default: $RAY_ADDRESS, or a new one on this machine"),
]


def _examples(*lines: str) -> str:
    return "\n\n".join(["Examples:", *lines])


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cifar-report {__version__}")
        raise typer.Exit


@app.callback(epilog=_examples("cifar-report list", "cifar-report report --profile quick", "cifar-report run --help"))
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """CIFAR-10 experiments from parameters to one report."""
    if used := _another_clone():
        print(f"cifar-report: this is the package of {used}, not that of the clone in this folder", file=sys.stderr)


def _another_clone() -> Path | None:
    """The folder that this package is of, where the current folder is another clone with an environment of its own."""
    params = packaged_folder("params")
    here = Path("params", "journal.yaml")
    return params.parent if here.is_file() and not here.samefile(params / here.name) else None


@app.command("list", epilog=_examples("cifar-report list"))
def list_experiments() -> None:
    """List the experiments and what each one changes."""
    rows = []
    for family in load_catalog().families:
        for entry in family.experiments:
            experiment = load_experiment(entry.id)
            change = "the experiment all others start from"
            if entry.builds_on:
                changes = experiment.differences(load_experiment(entry.builds_on))
                values = ", ".join(f"{name}={shown(value)}" for name, (_, value) in changes.items())
                change = f"{entry.builds_on} with {values}" if values else f"the same parameters as {entry.builds_on}"
            reference = f"{entry.reference_accuracy:.2f}" if entry.reference_accuracy else "–"
            rows.append((entry.id, family.name, experiment.model, change, reference))
    columns = ("experiment", "family", "model", "differs", "original, %")
    _print_table(columns, rows, width=160, title=load_catalog().title)


@app.command(epilog=_examples('cifar-report new EXP100 --from EXP003 --set lr=0.02 --title "LeNet, twice the rate"'))
def new(
    experiment: Annotated[str, typer.Argument(metavar="NAME", help="name of the new experiment, such as EXP100")],
    base: Annotated[str, typer.Option("--from", metavar="EXPERIMENT", help="the experiment that it builds on")],
    sets: Sets = None,
    title: Annotated[str | None, typer.Option(help="title in the report; default: what differs")] = None,
) -> None:
    """Add an experiment of your own to the journal."""
    from cifar_report.experiments.addition import add_experiment

    if used := _another_clone():
        raise RequestError(f"the experiment would be added to {used}: activate this folder's environment first")
    for path in add_experiment(experiment, base, parse_overrides(sets or []), title):
        print(f"written: {path}")
    print(f'run both with: make report ONLY="{full_name(base)} {full_name(experiment)}" SEEDS=0,1,2')
    names = full_name(base), full_name(experiment)
    full, quick = ([load_experiment(name, profile=profile) for name in names] for profile in ("full", "quick"))
    if alike := full[0].differences(full[1]).keys() - quick[0].differences(quick[1]).keys():
        print(
            f"the profile quick has the same {listing(sorted(alike))} for both: add PROFILE=full, or a line for "
            "yours in params/profiles/quick.yaml"
        )


@app.command(epilog=_examples("cifar-report parameters"))
def parameters() -> None:
    """Explain the parameters."""
    for name, field in Experiment.model_fields.items():
        print(f"{name} (default: {shown(field.default)})\n    {field.description}")


@app.command(
    epilog=_examples(
        "cifar-report run EXP000 EXP003-EXP006 --profile quick",
        "cifar-report run EXP003 --profile full --seeds 0,1,2 --set epochs=5 --set lr=1e-3",
    )
)
def run(
    experiments: Names = None,
    profile: Profile = None,
    seeds: Seeds = None,
    output: Output = None,
    sets: Sets = None,
    jobs: Jobs = None,
    runs_per_gpu: RunsPerGpu = 1,
    executor: Executor = "local",
    ray_address: RayAddress = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be executed, and how long")] = False,
) -> int:
    """Execute the runs that are not complete."""
    request = requested(experiments, profile, seeds, output, sets)
    return _dry_run(request) if dry_run else _execute(request, jobs, runs_per_gpu, executor, ray_address)


@app.command(epilog=_examples("cifar-report report EXP007-EXP010", "cifar-report report --profile full --no-run"))
def report(
    experiments: Names = None,
    profile: Profile = None,
    seeds: Seeds = None,
    output: Output = None,
    sets: Sets = None,
    jobs: Jobs = None,
    runs_per_gpu: RunsPerGpu = 1,
    executor: Executor = "local",
    ray_address: RayAddress = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="execute no run; report the recorded ones")] = False,
) -> int:
    """Execute the runs that are not complete, then write the report."""
    from cifar_report.journal.statements import check_measures

    if no_run and sets:
        raise RequestError("--set applies to runs to execute, and --no-run executes none")
    check_measures()
    profile = profile or (_recorded_profile(output) if no_run else None)
    request = requested(None if no_run else experiments, profile, seeds, output, sets)
    names, chosen, code, runs = request.experiments, request.seeds, DONE, request.output_dir / "runs"
    if no_run:
        from cifar_report.journal.journal import Journal

        names = tuple(_recorded(experiments, runs)) if experiments else ()
        chosen = request.seeds if seeds else ()  # none: all on record
        if Journal(request.output_dir, names, chosen).runs.empty:
            these = " of these" if experiments or seeds else ""
            raise RequestError(f"there are no runs{these} in {request.output_dir}")
    else:
        code = _execute(request, jobs, runs_per_gpu, executor, ray_address)
    built_on = {entry.builds_on or "" for entry in load_catalog().entries.values() if entry.id in names}
    names += tuple(sorted(built_on & {*_recorded((), runs)} - {*names}))  # shown beside what builds on them

    from cifar_report.execution.kernel import notebook_executor
    from cifar_report.report.export import make_report

    page = make_report(
        request.output_dir, profile=request.profile, executor=notebook_executor, experiments=names, seeds=chosen
    )
    print(f"report: {page}")
    return code


@app.command(epilog=_examples("cifar-report status --profile reference --seeds 0,1,2"))
def status(
    experiments: Names = None, profile: Profile = None, seeds: Seeds = None, output: Output = None, sets: Sets = None
) -> None:
    """Show the status of each planned run (complete, stale, diverged, failed, unfinished, missing), and why."""
    from cifar_report.records.lock import holder, is_locked

    profile = profile or _recorded_profile(output)
    plan = requested(experiments, profile, seeds, output, sets).plan(read_only=True)
    counts: Counter[str] = Counter()
    for planned in plan:
        state = planned.state()
        counts[state.status] += 1
        work = f"{holder(planned.folder)} is executing it" if is_locked(planned.folder) else ""
        print(": ".join(filter(None, [planned.name, state.status, "; ".join(filter(None, [state.reason, work]))])))
    _print_absent(plan)
    print(", ".join(f"{count} {status}" for status, count in counts.items()))


@app.command(epilog=_examples("cifar-report doctor"))
def doctor(output: Output = None) -> int:
    """Examine this machine: what the experiments need, whether it works, and what to do where it does not."""
    from cifar_report.execution.doctor import examine

    broken = 0
    for finding in examine(output or Path("outputs")):
        broken += finding.status == "broken"
        print(f"{finding.status:8} {finding.name}: {finding.text}")
    return RUN_FAILED if broken else DONE


@app.command(epilog=_examples("cifar-report fetch --profile full"))
def fetch(
    experiments: Names = None, profile: Profile = None, seeds: Seeds = None, output: Output = None, sets: Sets = None
) -> int:
    """Download the images and weights that experiments need. Exit code 2: something is missing; 1: substitutes only."""
    from cifar_report.data.cache import load_images
    from cifar_report.training.weights import find_weights

    def images(e: Experiment) -> tuple[str, str | None]:
        found, warning = load_images(e.dataset, data_dir=e.data_dir, offline=e.offline, size=e.image_size)
        return f"{e.dataset}: {found.source}, SHA-256 {found.sha256}", warning

    def weights(e: Experiment) -> tuple[str, str | None]:
        _, found, warning = find_weights(e) if e.weights else (None, None, None)
        words = f"{e.weights} weights of {e.model}: {found.source}, SHA-256 {found.sha256}" if found else ""
        return words, warning

    plan = requested(experiments, profile, seeds, output or Path(gettempdir()), sets).plan(read_only=True)
    found, warnings, missing = set(), set(), set()
    for look in (images, weights):
        for planned in plan:
            try:
                words, warning = look(planned.parameters)
                found.add(words)
                warnings.add(warning)
            except RequestError as error:
                missing.add(f"cifar-report: {error}")
    print(*sorted(filter(None, found)), *(f"WARNING: {w}" for w in sorted(filter(None, warnings))), sep="\n")
    sys.stderr.writelines(f"{line}\n" for line in sorted(missing))
    return REQUEST_WRONG if missing else RUN_FAILED if warnings - {None} else DONE


@app.command(epilog=_examples("cifar-report show EXP003", "cifar-report show EXP003 --profile reference --seeds 0,1"))
def show(experiments: Names = None, profile: Profile = None, seeds: Seeds = None, output: Output = None) -> None:
    """Show what recorded runs did and how accurate they are."""
    from cifar_report.execution.execute import outcome
    from cifar_report.records.record import read_runs, recorded_folder, run_name

    output = output or Path("outputs") / _chosen_profile(profile)
    wanted, runs = _parse_seeds(seeds or "0"), output / "runs"
    recorded = [run for name in _recorded(experiments or (), runs) for run in read_runs(runs / name.lower())]
    found = [record for record in recorded if not seeds or record.seed in wanted]
    if not found:
        raise RequestError(f"no record of these runs in {output}")
    for record in found:
        folder = recorded_folder(output, record)
        print(f"{run_name(record.experiment, record.parameters)}: {outcome(record)}  ({folder})")
        print(f"  {record.started_at} to {record.finished_at}, {duration(record.seconds.total)}")
        for warning in record.warnings:
            print(f"  WARNING: {warning}")
        if (data := record.data) and (environment := record.environment):
            print(f"  {data.name}, {data.source}: {data.train_size:,} training, {data.test_size:,} test images")
            print(f"  {environment.device_name}, {environment.threads} threads, torch {environment.torch}")
        print("  " + " ".join(f"{name}={shown(value)}" for name, value in record.parameters.items()))
        for e in record.epochs:
            best = "  lowest validation loss" if e.epoch == record.best_epoch else ""
            training = f"training {e.train_loss:.3f} {e.train_accuracy:7.2%}"
            validation = f"validation {e.validation_loss:.3f} {e.validation_accuracy:7.2%}"
            print(f"  epoch {e.epoch:3}  {training}  {validation}  {e.seconds:.1f} s{best}")


@app.command(
    epilog=_examples(
        "cifar-report diff EXP003 EXP004 --profile reference",
        "cifar-report diff outputs/quick /elsewhere/outputs/quick",
        "cifar-report diff old/results.csv outputs/quick/report --markdown",
    )
)
def diff(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="experiment, output folder, report folder or results.csv")
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="the other one, of the same kind")],
    profile: Profile = None,
    output: Output = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="print it as Markdown, for a pull request")] = False,
) -> None:
    """Compare two experiments, two output folders, or two reports, with tests."""
    from cifar_report.journal.diff import changes, compare_experiments, is_experiment, read_side

    sides = (before, after)
    if profile or not (output or all(Path(side).exists() for side in sides)):  # an experiment, then
        profile = _chosen_profile(profile)
    folder = output or Path("outputs") / (profile or "")
    experiments = [is_experiment(side, folder) for side in sides]
    if any(experiments) and not all(experiments):
        other = sides[experiments.index(False)]
        if not Path(other).exists():
            raise unknown("experiment", other, load_catalog().entries)
        raise RequestError("diff compares two experiments, or two folders or reports, not one with the other")
    if all(experiments):
        found, note = [compare_experiments(before, after, folder)], ""
    else:
        old, new = read_side(before), read_side(after)
        found = changes(old, new)
        note = f"{counted(len(found), 'difference')} between {len(old.rows)} and {len(new.rows)} runs"
        note += "; p values are Holm-adjusted"
        if old.left_out or new.left_out:
            note += f"; not compared: {old.left_out} and {new.left_out} runs of earlier settings"
    rows = []
    for c in found:
        test = f"{c.verdict}, {p_text(c.p)} ({c.test})" if c.p is not None else c.test
        gain = "" if c.difference is None else points(c.difference)
        gain += f" ({points(c.interval[0])} to {points(c.interval[1])})" if c.interval else ""
        metrics = ", ".join(f"{name} {number(was)} -> {number(now)}" for name, (was, now) in c.metrics.items())
        changed = ", ".join(f"{name} {shown(was)} -> {shown(now)}" for name, (was, now) in c.parameters.items())
        rows.append((c.name, c.what, *c.accuracies, gain, test, metrics, changed))
    if rows:
        columns = ("run", "what", "before, %", "after, %", "points", "test", "other figures", "parameters")
        (_print_markdown if markdown else _print_table)(columns, rows)
    if note:
        print(note)


@app.command(epilog=_examples("cifar-report verify --profile quick", "cifar-report verify EXP003 --profile reference"))
def verify(
    experiments: Names = None, profile: Profile = None, seeds: Seeds = None, output: Output = None, sets: Sets = None
) -> int:
    """Train complete runs again and check that they reproduce. Without experiments: the quickest run."""
    profile = profile or _recorded_profile(output)
    plan = requested(experiments, profile, seeds, output, sets).plan()
    from cifar_report.execution.verify import verify_runs

    return DONE if verify_runs(plan, named=bool(experiments)) else RUN_FAILED


@app.command(
    epilog=_examples(
        "cifar-report predict cat.jpg --experiment EXP003",
        "cifar-report predict holiday/ --experiment EXP020 --profile full --csv > predictions.csv",
    )
)
def predict(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE", help="picture files, or folders of them")],
    experiment: Annotated[
        str, typer.Option(metavar="EXPERIMENT", help="experiment whose finished run is used, such as EXP003")
    ],
    seed: Annotated[int, typer.Option(help="seed of the run")] = 0,
    profile: Profile = None,
    output: Output = None,
    top: Annotated[int, typer.Option(metavar="N", help="number of classes to show")] = 3,
    csv: Annotated[bool, typer.Option("--csv", help="print the shown classes as CSV")] = False,
) -> int:
    """Classify pictures with the weights of a complete run."""
    from cifar_report.predict import predict, write_csv
    from cifar_report.records.record import run_folder

    output = output or Path("outputs") / _chosen_profile(profile)
    names = _recorded([experiment], output / "runs")
    if len(names) > 1:
        raise RequestError(f"predict takes one experiment, not {experiment}")
    folder = run_folder(output, names[0], seed)
    if not folder.is_dir() and (folds := sorted(folder.parent.glob(f"{folder.name}-fold-*"))):
        folder = folds[0]
        print(f"cifar-report: with the weights of {folder.name}", file=sys.stderr)
    predictions, unreadable = predict(pictures, folder, top=max(1, top))
    if csv:
        write_csv(predictions, sys.stdout)
    for prediction in predictions if not csv else ():
        print(prediction)
    for path, reason in unreadable:
        print(f"cifar-report: skipped {path}: {reason}", file=sys.stderr)
    return DONE if predictions else REQUEST_WRONG


def _recorded_profile(output: Path | None) -> str | None:
    """The profile that an output folder is named after, or that its first run of the journal is nearest to."""
    from cifar_report.journal.work import nearest_profile
    from cifar_report.records.record import read_runs

    if output is None or output.name in profiles():
        return output.name if output else None
    found = (run for name in load_catalog().entries for run in read_runs(output / "runs" / name.lower()))
    return next((nearest_profile(run)[0] for run in found), None)


def _recorded(words: Sequence[str], runs: Path) -> list[str]:
    """Experiments of the journal, and others that have runs in a folder, such as those of a sweep; none: all there."""
    if not words:
        return sorted(path.name.upper() for path in runs.glob("*"))
    own = [word.upper() for word in words if (runs / word.lower()).is_dir()]
    others = [word for word in words if word.upper() not in own]
    return own + (load_catalog().select(others) if others else [])


@dataclass(frozen=True)
class Request:
    """The runs that a command is about."""

    experiments: tuple[str, ...]  # none: all
    profile: str
    seeds: tuple[int, ...]
    overrides: dict[str, str]
    output_dir: Path

    def plan(self, *, remote: bool = False, read_only: bool = False) -> list[PlannedRun]:
        """The runs, as `make_plan` gives them."""
        from cifar_report.execution.plan import make_plan

        return make_plan(**vars(self), remote=remote, read_only=read_only)


def requested(experiments: Names, profile: Profile, seeds: Seeds, output: Output, sets: Sets = None) -> Request:
    """Check the options that commands share; a `RequestError` names what is unknown or malformed."""
    profile = _chosen_profile(profile)
    return Request(
        experiments=tuple(load_catalog().select(experiments)) if experiments else (),
        profile=profile,
        seeds=_parse_seeds("0" if seeds is None else seeds),
        overrides=parse_overrides(sets or ()),
        output_dir=output or Path("outputs") / profile,
    )


def _parse_seeds(text: str) -> tuple[int, ...]:
    seeds: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,10})(?:\s*-\s*(\d{1,10}))?\s*", part, re.ASCII)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not first <= last < first + 10_000:
            raise RequestError(f"--seeds takes whole numbers, and ranges up to 10,000 long: 0,1 or 0-9; not '{part}'")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise RequestError(f"--seeds names a seed twice: {text}")
    return tuple(seeds)


def _chosen_profile(profile: str | None) -> str:
    """The profile, checked. The default is printed at once, as it decides the time: `full` with a GPU, else `quick`."""
    from cifar_report.execution.resources import gpus

    if profile is None:
        profile, count = ("full", "a") if gpus() else ("quick", "no")
        print(f"profile {profile}, because there is {count} GPU; choose another with --profile", file=sys.stderr)
    if profile not in profiles():
        raise unknown("profile", profile, profiles())
    return profile


def _dry_run(request: Request) -> int:
    from cifar_report.execution.speed import seconds_left

    plan, total = [(p, s) for p in request.plan(read_only=True) if (s := p.state()).status != "complete"], 0.0
    due = [planned for planned, state in plan if state.status != "diverged"]
    for planned, state in plan:
        try:
            seconds = seconds_left(planned) if planned in due else 0.0
            total, length = total + seconds, f"about {duration(seconds)}" if seconds else "not trained again"
        except RequestError as error:
            length = str(error)
        print(f"{planned.name}: {state.status}, {length}")
    _print_absent(due)
    print(f"{counted(len(due), 'run')} to execute: about {duration(total)} one after the other on this machine")
    return DONE


def _execute(request: Request, jobs: int | None, runs_per_gpu: int, executor: Executor, ray_address: str | None) -> int:
    from cifar_report.records.backup import restore_runs

    if ray_address and executor != "ray":
        raise RequestError("--ray-address requires --executor ray")
    plan = request.plan(remote=executor == "ray")
    if restored := restore_runs(request.output_dir):
        print(f"{counted(restored, 'complete run')} restored from the backup")
    for warning in sorted({warning for run in plan for warning in run.problems.values()}):
        print(f"WARNING: {warning}")
    if executor == "ray":
        from cifar_report.execution.cluster import execute_on_ray

        records = execute_on_ray(plan, address=ray_address, jobs=jobs, runs_per_gpu=runs_per_gpu)
    else:
        from cifar_report.execution.execute import execute_plan

        records = execute_plan(plan, jobs=jobs, runs_per_gpu=runs_per_gpu)
    return RUN_FAILED if any(record.status == "failed" for record in records) else DONE


def _print_absent(plan: Iterable[PlannedRun]) -> None:
    """Name the data and weights that are not on this machine: a run downloads them, or does without if allowed."""
    absent = {(what, run.parameters.model) for run in plan for what in run.problems}
    for name in sorted({"CIFAR-10" if what == "data" else f"ImageNet weights of {model}" for what, model in absent}):
        print(f"not on this machine: {name}")


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, width: int = 240, title: str = "") -> None:
    """Print a table; `width` in characters where there is no terminal. Columns of numbers are right-aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = "%" in column or column == "points"
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else width, highlight=False, markup=False, emoji=False).print(table)


def _print_markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as GitHub shows it, and an empty line."""
    for row in (columns, ["---"] * len(columns), *rows):
        print("|", " | ".join(cell.replace("|", "\\|") for cell in row), "|")
    print()
