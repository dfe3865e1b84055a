"""What a run did, beside what its experiment does at full budget."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from cifar_report.experiments.catalog import Family, load_catalog, load_experiment, profiles
from cifar_report.experiments.schema import acting_only, differences, shown, with_defaults
from cifar_report.experiments.sweep import split_sweep_name
from cifar_report.formatting import ranges
from cifar_report.records.record import RunRecord

SPEED = ("compile", "precision")  # how fast the same work is done
AMOUNT = (  # how much work, on which images: what profiles set
    *("dataset", "train_limit", "test_limit", "image_size", "epochs", "batch_size"),
    *("validation", "holdout_size", "fold", "folds"),
)


def parameters_of(run: RunRecord) -> dict[str, Any]:
    """A run's parameters, younger ones with their defaults; `precision` is the one it was computed in."""
    return with_defaults(run.parameters) | ({"precision": run.precision} if run.precision else {})


def work_of(run: RunRecord) -> tuple[dict, tuple[str, str] | None, str | None]:
    """What a run did, its seed and fold aside: parameters, data with its split, and weights."""
    parameters = acting_only(parameters_of(run))
    parameters = {n: value for n, value in parameters.items() if n not in ("experiment", "seed", "fold")}
    split = run.data.split_sha256 if run.data and run.parameters.get("fold") is None else ""
    data = (run.data.sha256, split) if run.data else None
    return parameters, data, run.weights.sha256 if run.weights else None


def images_of(run: RunRecord) -> tuple | None:
    """The images that a run learned from and was tested on; runs of the same can be ranked."""
    d = run.data
    return (d.sha256, d.split_sha256, d.train_size, d.test_size) if d else None


@cache
def full_budget_parameters(experiment: str) -> dict[str, Any] | None:
    """An experiment's parameters at full budget; `None` for one that is not in the journal, which has none."""
    if experiment not in load_catalog().entries:
        return None
    return load_experiment(experiment, profile="full").result_parameters()


def lacks_weights(run: RunRecord) -> bool:
    """Whether a run was to start from pretrained weights and had none."""
    return run.parameters.get("weights") is not None and run.weights is None


def at_full_budget(run: RunRecord) -> bool:
    """Whether a run did the original's work: its parameters, on CIFAR-10, with its weights."""
    if full_budget_parameters(run.experiment) is None or run.data is None or run.data.name != "cifar10":
        return False
    return not lacks_weights(run) and changed_parameters(run).keys() <= set(SPEED)


def changed_parameters(run: RunRecord) -> dict[str, tuple[Any, Any]]:
    """Parameters that differ from the full budget's, those of a sweep aside: name -> (full budget, this run)."""
    varied, swept = split_sweep_name(run.experiment)
    full = full_budget_parameters(varied if swept else run.experiment)
    if full is None:
        return {}
    ignored = ["experiment", "seed", *swept, *([] if run.precision else ["precision"])]
    known = {name: value for name, value in parameters_of(run).items() if name in full}
    return differences(full, known, ignored=ignored)


def less_work(run: RunRecord) -> bool:
    """Whether a run had another amount of work than at full budget, the data aside, or lacked its weights."""
    return lacks_weights(run) or not changed_parameters(run).keys().isdisjoint(AMOUNT[1:])


def altered_parameters(run: RunRecord) -> dict[str, tuple[Any, Any]]:
    """Of `changed_parameters` those that make it another experiment than it is called."""
    return {name: pair for name, pair in changed_parameters(run).items() if name not in (*AMOUNT, *SPEED)}


def unlike_because(base: RunRecord, run: RunRecord) -> str | None:
    """What makes trainings unlike: any difference but the one between the two experiments at full budget."""
    found = differences(parameters_of(base), parameters_of(run))
    if base.data and run.data and base.data.train_size == run.data.train_size:
        found.pop("train_limit", None)  # above the number of images that there are
    full = [full_budget_parameters(r.experiment) for r in (base, run)]
    swept = [name for r in (base, run) for name in split_sweep_name(r.experiment)[1]]
    own = {name: pair for name, pair in found.items() if not swept or name in swept}  # one's own: whatever it changes
    meant = differences(full[0], full[1]) if full[0] and full[1] else own
    reasons = [
        f"{name} is {shown(before)} and {shown(after)}"
        for name, (before, after) in found.items()
        if meant.get(name) != (before, after) and name != "test_limit"
    ]
    reasons += [f"{name} is {shown(parameters_of(run).get(name))} in both" for name in meant if name not in found]
    asked = meant.keys() & {"train_limit", "validation", "holdout_size", "folds"}  # how many images are trained on
    if base.data and run.data and base.data.train_size != run.data.train_size and not (reasons or asked):
        reasons.append(f"trained on {base.data.train_size:,} and {run.data.train_size:,} images")
    if run.parameters.get("fold") is not None:
        reasons.append("folds share training images, so the test is overconfident")
    reasons += [f"{r.experiment} was initialized randomly" for r in (base, run) if lacks_weights(r)]
    return "; ".join(reasons) or None


def nearest_profile(run: RunRecord, ignored: Collection[str] = ()) -> tuple[str, dict[str, Any]]:
    """The profile from whose parameters a run of the catalog differs least, and what it has in their place."""
    candidates = {}
    for profile in profiles():
        usual = load_experiment(run.experiment, profile=profile).result_parameters()
        known = {name: value for name, value in run.parameters.items() if name in usual.keys() - set(ignored)}
        candidates[profile] = {n: value for n, (_, value) in differences(usual, usual | known).items()}
    return min(candidates.items(), key=lambda item: len(item[1]))


def reproduce_command(runs: Sequence[RunRecord], family: Family) -> str:
    """The command that does the work of an experiment's runs again; of one that is not in the catalog, one a line."""
    run = runs[0]
    if full_budget_parameters(run.experiment) is None:
        return "\n".join(_papermill_command(run, family) for run in runs)
    every_fold = {"fold"} if len({run.parameters.get("fold") for run in runs}) > 1 else set()
    profile, changed = nearest_profile(run, every_fold)
    pairs = " ".join(f"{name}={shown(value)}" for name, value in changed.items())
    pairs += " data_dir=FOLDER" if run.parameters.get("dataset") == "folder" else ""
    seeds = ",".join(ranges(str(seed) for seed in sorted({run.seed for run in runs})))
    # In a folder of their own: they would replace the profile's runs.
    settings = f" --set {shlex.quote(pairs)} --output outputs/again" if pairs else ""
    return f"cifar-report run {run.experiment} --profile {profile} --seeds {seeds}{settings}"


def _papermill_command(run: RunRecord, family: Family) -> str:
    parameters = with_defaults(run.parameters)  # every one: what a notebook's cell holds may change
    words = " ".join(f"-p {name} {shlex.quote(shown(value))}" for name, value in parameters.items())
    words += " -p data_dir FOLDER" if parameters["dataset"] == "folder" else ""
    return f"papermill notebooks/{family.notebook} out.ipynb {words}"
