"""The original report's hypotheses and questions, judged on a journal's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cifar_report.experiments.catalog import load_catalog
from cifar_report.formatting import percent, points
from cifar_report.journal.results import Comparison, Journal
from cifar_report.journal.statistics import SIGNIFICANCE

Answer = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """A hypothesis or a question's claim, what the data say of it, and why."""

    origin: str
    claim: str
    answer: Answer
    reason: str


def verdicts(journal: Journal) -> list[Verdict]:
    """The original report's two hypotheses and six questions, judged on this journal's data."""
    transfer, augmented = ["EXP011", "EXP012", "EXP013"], ["EXP017", "EXP018", "EXP019"]
    return [
        _reaches_80(journal),
        _changes(
            journal,
            "Hypothesis 2",
            "Pretrained models and augmentation each improve accuracy.",
            [*transfer, *augmented],
            by=("weights", "augment"),
        ),
        _changes_nothing(
            journal,
            "Question 1",
            "The optimizer makes no difference for LeNet.",
            ["EXP007", "EXP008", "EXP009", "EXP010"],
        ),
        _changes_nothing(
            journal,
            "Question 2",
            "The initial weights make no difference for LeNet.",
            ["EXP003", "EXP004", "EXP005", "EXP006"],
        ),
        _changes(journal, "Question 3", "A network fine-tuned from ImageNet weights beats LeNet.", transfer),
        _changes(
            journal,
            "Question 3",
            "Training only the last two layers is worse than training all.",
            ["EXP014", "EXP015", "EXP016"],
            sought="worse",
        ),
        _crossed(journal),
        _changes(
            journal,
            "Question 5",
            "Augmented images of 224 pixels, for fewer epochs, improve on the same models at 32 pixels.",
            augmented,
        ),
        _each_augmentation(journal),
        _changes(
            journal, "Afterwards", "ImageNet channel statistics (and five more epochs) improve on EXP017.", ["EXP020"]
        ),
    ]


def _crossed(journal: Journal) -> Verdict:
    """Whether optimizer and initial weights were varied together, as an answer to the question would need."""
    claim = "Optimizer and initial weights act together: the best of one depends on the other."
    tried: dict[str, set[str]] = {}
    for result in journal.complete.values():
        for run in result.runs:
            if run.parameters["model"] == "lenet":
                tried.setdefault(str(run.parameters["optimizer"]), set()).add(str(run.parameters["init"]))
    several = {name: inits for name, inits in tried.items() if len(inits) > 1}
    told = "; ".join(f"{name} with {', '.join(sorted(inits))}" for name, inits in tried.items()) or "no run is complete"
    if len(several) < 2:
        return Verdict("Question 4", claim, "undecided", f"no two optimizers were tried with several schemes ({told})")
    return Verdict("Question 4", claim, "undecided", f"tried: {told}; this journal does not test interactions")


def _each_augmentation(journal: Journal) -> Verdict:
    """Whether any augmentation was tried alone."""
    claim = "Some augmentations matter more than others."
    runs = [run for result in journal.complete.values() for run in result.runs]
    tried = {tuple(run.parameters["augment"]) for run in runs if run.parameters["augment"]}
    told = "; ".join(" + ".join(names) for names in sorted(tried)) or "none"
    if not any(len(names) == 1 for names in tried):
        return Verdict("Question 6", claim, "undecided", f"no augmentation was tried alone (tried: {told})")
    return Verdict("Question 6", claim, "undecided", f"tried: {told}; this journal does not compare them")


def _reaches_80(journal: Journal) -> Verdict:
    claim = "At least 80 % accuracy can be had with pretrained models, augmentation, initialization and optimizers."
    if not journal.complete:
        return Verdict("Hypothesis 1", claim, "undecided", "no run is complete")
    results = list(journal.complete.values())
    best = max(results, key=lambda r: r.accuracy)
    low, high = best.interval
    reason = (
        f"the best of {len(results)} by test accuracy, {best.entry.id}, has {percent(best.accuracy, 2)} (95 % interval "
        f"{percent(low, 2)} to {percent(high, 2)})"
    )
    if any(run.data and run.data.name != "cifar10" for run in best.runs):
        return Verdict("Hypothesis 1", claim, "undecided", f"{reason}, but not on CIFAR-10")
    if low >= 0.8:
        return Verdict("Hypothesis 1", claim, "supported", reason)
    # Below 80 % only refutes the claim if everything was tried at its full budget.
    tried = [journal.complete.get(name) for name in load_catalog().entries]
    if high < 0.8 and all(result and result.full_budget for result in tried):
        return Verdict("Hypothesis 1", claim, "refuted", f"{reason}, with every experiment at full budget")
    return Verdict("Hypothesis 1", claim, "undecided", f"{reason}; more training may yet reach it")


def _changes(
    journal: Journal,
    origin: str,
    claim: str,
    experiments: Sequence[str],
    *,
    sought: Literal["better", "worse"] = "better",
    by: Sequence[str] = (),
) -> Verdict:
    """Supported if every comparison says what is sought, refuted if every one says the opposite.

    `by`: the parameters of which the claim says that each does it. Where a comparison changes more than one of them, or
    others, it cannot tell; as long as the catalog has none that does, there is no verdict.
    """
    found, told, obstacle = _evidence(journal, experiments)
    mixed = [c for c in found if by and (len(c.changed) != 1 or c.changed[0] not in by)]
    if mixed and not obstacle:
        differences = "; ".join(f"{c.experiment} and {c.base} differ in {', '.join(c.changed)}" for c in mixed)
        obstacle = f"what each of {' and '.join(by)} does alone cannot be told: {differences}"
    if obstacle:
        return Verdict(origin, claim, "undecided", "; ".join(filter(None, [obstacle, told])))
    opposite = "worse" if sought == "better" else "better"
    answers = {c.verdict for c in found}
    answer: Answer = "supported" if answers == {sought} else "refuted" if answers == {opposite} else "undecided"
    return Verdict(origin, claim, answer, told)


def _changes_nothing(journal: Journal, origin: str, claim: str, experiments: Sequence[str]) -> Verdict:
    """Refuted by a difference. Never proven."""
    found, told, obstacle = _evidence(journal, experiments)
    if obstacle:
        return Verdict(origin, claim, "undecided", "; ".join(filter(None, [obstacle, told])))
    if any(c.p < SIGNIFICANCE for c in found):
        return Verdict(origin, claim, "refuted", told)
    unproven = "that no difference was shown does not prove that there is none"
    return Verdict(origin, claim, "undecided", "; ".join(filter(None, [unproven, told])))


def _evidence(journal: Journal, experiments: Sequence[str]) -> tuple[list[Comparison], str, str]:
    """The comparisons a claim about methods rests on, what they say, and what forbids a verdict, if anything does."""
    found = [journal.comparisons[name] for name in experiments if name in journal.comparisons]
    repeated = [c.experiment for c in found if not c.changed]  # evidence of nothing
    found = [c for c in found if c.changed]
    missing = [name for name in experiments if name not in journal.comparisons and name not in repeated]
    unlike = [c.experiment for c in found if c.caveat]
    told = "; ".join(
        f"against {base}: "
        + ", ".join(f"{c.experiment} {points(c.difference)} ({c.verdict})" for c in found if c.base == base)
        for base in dict.fromkeys(c.base for c in found)
    )
    if found:
        told += f"; in points, {' and '.join(dict.fromkeys(c.test for c in found))}"
    if missing:
        return found, told, f"no comparison for {', '.join(missing)}"
    if unlike:
        return found, told, f"not like with like: {', '.join(unlike)}, as the observations on them say"
    if not all(c.full_budget for c in found):
        return found, told, "not at full budget"
    if any(c.seeds == 1 for c in found):
        return found, told, "one seed cannot tell a method from luck"
    return found, told, ""
