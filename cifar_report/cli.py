"""The command `cifar-report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_report import __version__
from cifar_report.experiments.catalog import load_catalog, load_experiment, parse_overrides, profiles
from cifar_report.experiments.errors import RequestError, did_you_mean
from cifar_report.experiments.schema import shown
from cifar_report.formatting import duration, number, p_text, points

if TYPE_CHECKING:  # what costs time to import is imported by the commands that need it
    from cifar_report.execution.plan import PlannedRun

DONE, RUN_FAILED, REQUEST_WRONG, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 a run failed, 2 the request was wrong."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except RequestError as error:
        print(f"cifar-report: {error}", file=sys.stderr)
        return REQUEST_WRONG
    except KeyboardInterrupt:
        print("\ncifar-report: interrupted; the same command goes on with the runs not yet complete", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        sys.stderr.close()
        return DONE if options.command in (_list, _parameters, _show, _status) else RUN_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cifar-report",
        description="CIFAR-10 experiments from parameters to one report.",
        epilog=_examples(
            "cifar-report list", "cifar-report report --profile quick", "cifar-report run EXP003-EXP006 --seeds 0,1,2"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cifar-report {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _command(commands, "list", _list, "show the experiments", "cifar-report list")
    _command(commands, "parameters", _parameters, "explain the parameters", "cifar-report parameters")
    run = _command(
        commands,
        "run",
        _run,
        "execute the runs that are not complete",
        "cifar-report run EXP000 EXP003-EXP006 --profile quick",
        "cifar-report run EXP003 --profile full --seeds 0,1,2 --set epochs=5 --set lr=1e-3",
    )
    report = _command(
        commands,
        "report",
        _report,
        "execute the runs that are not complete, then write the report",
        "cifar-report report",
        "cifar-report report EXP007-EXP010 --profile reference",
        "cifar-report report --profile full --no-run",
    )
    status = _command(
        commands,
        "status",
        _status,
        "say of each planned run: complete, stale (and why), failed, unfinished, missing",
        "cifar-report status --profile reference --seeds 0,1,2",
    )
    fetch = _command(
        commands,
        "fetch",
        _fetch,
        "download the images and weights that experiments need, and run nothing",
        "cifar-report fetch --profile full",
    )
    verify = _command(
        commands,
        "verify",
        _verify,
        "train complete runs again and say whether they reproduce; none named: the quickest one",
        "cifar-report verify --profile quick",
        "cifar-report verify EXP003 --profile reference",
        "cifar-report verify --code EXP003 --profile reference --seeds 0,1,2",
    )
    verify.add_argument(
        "--code",
        action="store_true",
        help="instead compare, in shortened runs, today's code with that of the recorded commits; records for which "
        "weights and predictions agree count as complete",
    )
    show = _command(
        commands,
        "show",
        _show,
        "show what recorded runs did and reached",
        "cifar-report show EXP003",
        "cifar-report show EXP003 --profile reference --seeds 0,1",
    )
    diff = _command(
        commands,
        "diff",
        _diff,
        "compare two experiments, two output folders, or two reports, with tests",
        "cifar-report diff EXP003 EXP004 --profile reference",
        "cifar-report diff outputs/quick /elsewhere/outputs/quick --html difference.html",
        "cifar-report diff old/results.csv outputs/quick/report",
    )
    for side, words in (
        ("before", "an experiment, an output folder, a report's folder, or a results.csv"),
        ("after", "the same"),
    ):
        diff.add_argument(side, metavar=side.upper(), help=words)
    diff.add_argument("--profile", help="of two experiments; default: full where there is a GPU, else quick")
    diff.add_argument(
        "--output", type=Path, help="folder that holds runs/ of two experiments; default: outputs/<profile>"
    )
    diff.add_argument("--html", type=Path, metavar="FILE", help="write the comparison to a page as well")
    predict = _command(
        commands,
        "predict",
        _predict,
        "classify pictures with a finished run's weights",
        "cifar-report predict cat.jpg --experiment EXP003",
        "cifar-report predict holiday/ --experiment EXP020 --profile full --csv predictions.csv",
    )
    predict.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="picture files, or folders of them")
    predict.add_argument("--experiment", required=True, metavar="EXPERIMENT", help="EXP003")
    predict.add_argument("--seed", type=int, default=0, help="default: 0")
    predict.add_argument("--profile", help="default: full where there is a GPU, else quick")
    predict.add_argument("--output", type=Path, help="folder that holds runs/; default: outputs/<profile>")
    predict.add_argument("--top", type=int, default=3, metavar="N", help="classes to show; default: 3")
    predict.add_argument("--csv", type=Path, metavar="FILE", help="write all shown classes to a file as well")
    badges = _command(
        commands,
        "badges",
        _badges,
        "name the repository that Colab fetches the notebooks and the package from",
        "cifar-report badges --repo owner/name --ref v1.0",
    )
    badges.add_argument("--repo", metavar="OWNER/NAME", help="on GitHub; default: unchanged")
    badges.add_argument("--ref", help="branch, tag or commit; default: unchanged")
    report.add_argument("--no-run", action="store_true", help="execute no run: report what is there")
    run.add_argument("--dry-run", action="store_true", help="only print what would be executed, and how long it takes")
    for command in (run, report, status, fetch, verify, show):
        _request_options(command)
    for command in (run, report, status, fetch, verify):
        _override_option(command)
    for command in (run, report):
        command.add_argument(
            "--jobs", type=int, metavar="N", help="runs at a time; default: 1, with Ray what the cluster has room for"
        )
        command.add_argument(
            "--runs-per-gpu", type=int, default=1, metavar="N", help="runs that share a GPU; default: 1"
        )
        command.add_argument(
            "--executor", choices=("local", "ray"), default="local", help="where runs are executed; default: local"
        )
        command.add_argument(
            "--ray-address", metavar="HOST:PORT", help="of a Ray cluster; default: the one that runs here, or a new one"
        )
    return parser


def _command(commands, name: str, function, summary: str, *examples: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_examples(*examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=function)
    return parser


def _request_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="EXP003, EXP003-EXP006; none: all")
    parser.add_argument("--profile", help=f"{', '.join(profiles())}; default: full where there is a GPU, else quick")
    parser.add_argument("--seeds", help="seeds, comma-separated; default: 0, of a report without runs: all")
    parser.add_argument("--output", type=Path, help="folder for runs/ and report/; default: outputs/<profile>")


def _override_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a parameter; may be repeated or hold several pairs: --set 'epochs=3 lr=0.01'",
    )


def _examples(*lines: str) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)


def _list(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=load_catalog().title, box=None, pad_edge=False, header_style="bold")
    for column in ("experiment", "family", "model", "differs", "original, %"):
        table.add_column(column, justify="right" if "%" in column else "left", no_wrap=column == "experiment")
    for family in load_catalog().families:
        for entry in family.experiments:
            experiment = load_experiment(entry.id)
            differs = "the experiment all others start from"
            if entry.builds_on:
                changes = experiment.differences(load_experiment(entry.builds_on))
                told = ", ".join(f"{name}={shown(here)}" for name, (_, here) in changes.items())
                differs = f"{entry.builds_on} with {told}" if told else f"the same parameters as {entry.builds_on}"
            reference = f"{entry.reference_accuracy:.2f}" if entry.reference_accuracy else "–"
            table.add_row(*map(Text, (entry.id, family.name, experiment.model, differs, reference)))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(table)
    return DONE


def _parameters(options: argparse.Namespace) -> int:
    from cifar_report.experiments.schema import Experiment

    for name, field in Experiment.model_fields.items():
        print(f"{name} (default: {shown(field.default)})\n    {field.description}")
    return DONE


def _run(options: argparse.Namespace) -> int:
    request = _request(options)
    return _dry_run(request) if options.dry_run else _execute(request, options)


def _dry_run(request: dict) -> int:
    from cifar_report.execution.estimate import estimate_seconds

    plan = [(run, state) for run in _plan(request, look=True) if (state := run.state()).word != "complete"]
    estimates = [estimate_seconds(run) for run, _ in plan]
    for (run, state), seconds in zip(plan, estimates, strict=True):
        print(
            f"{run.name}: {state.word}, {'no earlier run to estimate from' if seconds is None else duration(seconds)}"
        )
    _print_absent(run for run, _ in plan)
    known = [seconds for seconds in estimates if seconds is not None]
    rest = f", and {len(plan) - len(known)} of unknown length" if len(known) < len(plan) else ""
    print(f"{len(plan)} runs to execute: about {duration(sum(known))} one after the other{rest}")
    return DONE


def _print_absent(runs: Iterable[PlannedRun]) -> None:
    """Say what is not on this machine, so that a run fetches it first, or goes without it if that was asked for."""
    absent = {
        "CIFAR-10" if what == "data" else f"ImageNet weights of {run.parameters.model}"
        for run in runs
        for what in run.absent
    }
    for name in sorted(absent):
        print(f"not on this machine: {name}")


def _status(options: argparse.Namespace) -> int:
    plan = _plan(_request(options), look=True)
    states = [run.state() for run in plan]
    for run, state in zip(plan, states, strict=True):
        print(f"{run.name}: {state.word}{': ' if state.because else ''}{state.because}")
    _print_absent(plan)
    words = [state.word for state in states]
    print(", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words)))
    return DONE


def _fetch(options: argparse.Namespace) -> int:
    from cifar_report.data.cache import load_images
    from cifar_report.training.weights import find_weights

    plan = _plan(_request(options), elsewhere=True)
    found = set()
    for run in plan:
        e = run.parameters
        images, _ = load_images(e.dataset, data_dir=e.data_dir, offline=e.offline)
        found.add(f"{e.dataset}: {images.source}, SHA-256 {images.sha256}")
        if e.weights and (weights := find_weights(e)[1]):
            found.add(f"{e.weights} weights of {e.model}: {weights.source}, SHA-256 {weights.sha256}")
    print("\n".join(sorted(found)))
    for warning in sorted({warning for run in plan for warning in run.warnings}):
        print(f"WARNING: {warning}")
    return DONE


def _show(options: argparse.Namespace) -> int:
    from cifar_report.execution.execute import outcome
    from cifar_report.records.record import read_record, run_folder

    request = _request(options)
    folders = [
        run_folder(request["output_dir"], name, seed)
        for name in request["experiments"] or load_catalog().entries
        for seed in request["seeds"]
    ]
    found = [(folder, record) for folder in folders if (record := read_record(folder))]
    if not found:
        raise RequestError(f"there is no record of these runs below {request['output_dir']}")
    for folder, record in found:
        print(f"{record.experiment} seed {record.seed}: {outcome(record)}  ({folder})")
        print(f"  {record.started_at} to {record.finished_at}, {duration(record.seconds.total)}")
        for warning in record.warnings:
            print(f"  WARNING: {warning}")
        if record.data and record.environment:
            data, environment = record.data, record.environment
            print(f"  {data.name}, {data.source}: {data.train_size:,} training, {data.test_size:,} test images")
            print(f"  {environment.device_name}, {environment.threads} threads, torch {environment.torch}")
        print("  " + " ".join(f"{name}={shown(value)}" for name, value in record.parameters.items()))
        for e in record.epochs:
            best = "  lowest validation loss" if e.epoch == record.best_epoch else ""
            print(
                f"  epoch {e.epoch:3}  training {e.train_loss:.3f} {e.train_accuracy:7.2%}  "
                f"validation {e.validation_loss:.3f} {e.validation_accuracy:7.2%}  {e.seconds:.1f} s{best}"
            )
    return DONE


def _verify(options: argparse.Namespace) -> int:
    if options.code:
        from cifar_report.execution.verify_code import verify_code

        return DONE if verify_code(_plan(_request(options))) else RUN_FAILED
    from cifar_report.execution.verify import verify_runs

    return DONE if verify_runs(_plan(_request(options)), named=bool(options.experiments)) else RUN_FAILED


def _diff(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cifar_report.journal.changes import changes, compare_experiments, is_experiment, read_side
    from cifar_report.report.layout import difference_page

    names = [options.before, options.after]
    named = any(not Path(name).exists() for name in names)  # an experiment, then
    profile = options.profile or (_default_profile() if named and not options.output else "")
    below = options.output or Path("outputs") / profile
    experiments = [is_experiment(name, below) for name in names]
    if any(experiments) and not all(experiments):
        raise RequestError("diff compares two experiments, or two folders or reports, not one with the other")
    before, after = (read_side(name, below) for name in names)
    found = compare_experiments(before, after) if all(experiments) else changes(before, after)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "what", "before, %", "after, %", "points", "test", "other figures", "parameters"):
        table.add_column(column, justify="right" if "%" in column or column == "points" else "left")
    for c in found:
        told = f"{c.verdict}, {p_text(c.p)} ({c.test})" if c.p is not None else c.test
        gained = "" if c.difference is None else points(c.difference)
        metrics = ", ".join(f"{name} {number(old)} -> {number(new)}" for name, (old, new) in c.metrics.items())
        changed = ", ".join(f"{name} {shown(old)} -> {shown(new)}" for name, (old, new) in c.parameters.items())
        table.add_row(*map(Text, (c.name, c.what, *c.accuracies, gained, told, metrics, changed)))
    if found:
        Console(width=None if sys.stdout.isatty() else 240, highlight=False).print(table)
    adjusted = "p values are Holm-adjusted for the number of comparisons"
    if all(experiments):
        print(adjusted)
    else:
        same = f"of {len(before.rows)} and {len(after.rows)} runs"
        print(f"{len(found)} differ {same}; {adjusted}" if found else f"no difference {same}")
    if options.html:
        with _writing(options.html) as temporary:
            temporary.write_text(difference_page(before, after, found), encoding="utf-8")
    return DONE


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Write a file that the user named, in one step."""
    from cifar_report.records.files import atomic_file

    try:
        with atomic_file(path) as temporary:
            yield temporary
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}") from None


def _predict(options: argparse.Namespace) -> int:
    from cifar_report.predict import predict, write_csv
    from cifar_report.records.record import run_folder

    names = load_catalog().select([options.experiment])
    if len(names) > 1:
        raise RequestError(f"predict takes one experiment, not {options.experiment}")
    profile = options.profile or (None if options.output else _default_profile())
    folder = run_folder(options.output or Path("outputs") / str(profile), names[0], options.seed)
    predictions, unreadable = predict(options.pictures, folder, top=max(1, options.top))
    for prediction in predictions:
        print(prediction)
    for path, reason in unreadable:
        print(f"cifar-report: {path} was skipped: {reason}", file=sys.stderr)
    if options.csv:
        with _writing(options.csv) as temporary:
            write_csv(predictions, temporary)
    return DONE if predictions else REQUEST_WRONG


def _badges(options: argparse.Namespace) -> int:
    from cifar_report.colab import write_badges

    changed = write_badges(options.repo, options.ref)
    print("\n".join(map(str, changed)) or "nothing to change")
    return DONE


def _report(options: argparse.Namespace) -> int:
    request = _request(options)
    if options.no_run and options.set:
        raise RequestError("--set is for runs to execute, and --no-run executes none")
    if options.no_run:
        from cifar_report.execution.plan import check_writable

        check_writable(request["output_dir"])
        request["seeds"] = request["seeds"] if options.seeds else []
        code = DONE
    else:
        code = _execute(request, options)

    from cifar_report.execution.kernel import notebook_executor
    from cifar_report.report.export import make_report

    names = load_catalog().select(request["experiments"]) if request["experiments"] else []
    page = make_report(
        request["output_dir"],
        profile=request["profile"],
        executor=notebook_executor,
        experiments=names,
        seeds=request["seeds"],
    )
    print(f"report: {page}")
    return code


def _request(options: argparse.Namespace) -> dict:
    profile = options.profile or _default_profile()
    if profile not in profiles():
        raise RequestError(f"unknown profile '{profile}'{did_you_mean(profile, profiles())}")
    return {
        "experiments": load_catalog().select(options.experiments) if options.experiments else [],
        "profile": profile,
        "seeds": _seeds(options.seeds or "0"),
        "overrides": parse_overrides(getattr(options, "set", [])),
        "output_dir": options.output or Path("outputs") / profile,
    }


def _plan(request: dict, *, elsewhere: bool = False, look: bool = False) -> list[PlannedRun]:
    from cifar_report.execution.plan import make_plan

    return make_plan(
        request["experiments"],
        profile=request["profile"],
        seeds=request["seeds"],
        overrides=request["overrides"],
        output_dir=request["output_dir"],
        elsewhere=elsewhere,
        look=look,
    )


def _execute(request: dict, options: argparse.Namespace) -> int:
    from cifar_report.records.backup import restore_runs

    for name, value in (("--jobs", options.jobs), ("--runs-per-gpu", options.runs_per_gpu)):
        if value is not None and value < 1:
            raise RequestError(f"{name} takes a whole number from 1, not {value}")
    if options.ray_address and options.executor != "ray":
        raise RequestError("--ray-address belongs to --executor ray")
    plan = _plan(request, elsewhere=options.executor == "ray")
    if restored := restore_runs(request["output_dir"]):
        print(f"{restored} complete runs brought back from their copies")
    for warning in sorted({warning for run in plan for warning in run.warnings}):
        print(f"WARNING: {warning}")
    for weights in sorted({run.local_weights for run in plan if run.local_weights}):
        print(weights)
    say = partial(print, flush=True)
    if options.executor == "ray":
        from cifar_report.execution.cluster import execute_on_ray

        records = execute_on_ray(
            plan, address=options.ray_address, jobs=options.jobs, runs_per_gpu=options.runs_per_gpu, say=say
        )
    else:
        from cifar_report.execution.execute import execute_plan

        records = execute_plan(plan, jobs=options.jobs or 1, runs_per_gpu=options.runs_per_gpu, say=say)
    return RUN_FAILED if any(record.status == "failed" for record in records) else DONE


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"--seeds takes whole numbers separated by commas, such as 0,1,2; not '{text}'") from None
    if len(set(seeds)) < len(seeds):
        raise RequestError(f"--seeds names a seed twice: {text}")
    return seeds


def _default_profile() -> str:
    """`full` where there is a GPU, else `quick`; told at once, since it decides how long things take."""
    from cifar_report.execution.resources import gpus

    profile = "full" if gpus() else "quick"
    print(
        f"profile {profile}, because there is {'a' if gpus() else 'no'} GPU; choose another with --profile", flush=True
    )
    return profile
