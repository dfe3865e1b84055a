"""Write `docs/findings.md` from the committed records: `make findings`. A test compares the two."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cifar_report import Journal
from cifar_report.formatting import listing
from cifar_report.journal.journal import Result
from cifar_report.journal.statements import Finding, findings
from cifar_report.records.files import write_if_changed

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = ROOT / "docs" / "findings.md"
LADDER = ("EXP003", *(f"EXP{number:03}" for number in range(21, 31)))  # LeNet, then an idea more a row


def page(journal: Journal) -> str:
    """The findings as Markdown."""
    found = findings(journal)
    original = [finding for finding in found if not finding.statement.ours]
    parts = [
        "# Findings",
        "<!-- Written by `make findings` from outputs/reference; edit maintenance/write_findings.py. -->",
        "What the records in [`outputs/reference`](../outputs/reference) say, each with its figures. Accuracies are in "
        "percent of the 10,000 test images, differences in points with 95 % intervals; n counts seeds. All are at full "
        "budget, with an unofficial copy of CIFAR-10 and stand-in ImageNet weights ([README](../README.md#on-record)); "
        "how the original was read is in [readings](readings.md).",
        "## What of the original report holds up",
        _reproduced(journal),
        _list(finding for finding in original if finding.answer == "holds"),
        "## What does not",
        _list(finding for finding in original if finding.answer == "does not hold"),
        *_fitted(journal),
        "## What it could not have known",
        *_spread(journal),
        "## What goes beyond it",
        *_ladder(journal, [finding for finding in found if finding.statement.ours]),
        "## What is open",
        _open(original),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _list(found: Iterable[Finding]) -> str:
    return "\n".join(f"- *{f.statement.says}* ({f.statement.of}) {f.reason}." for f in found)


def _percent(result: Result) -> str:
    return f"{100 * result.accuracy:.2f} (n = {len(result.runs)})"


def _reproduced(journal: Journal) -> str:
    judged = {name: journal.reproduction(name) for name in journal.complete}
    answers = {name: found.answer for name, found in judged.items() if found and found.answer != "spread unknown"}
    agree = [name for name, answer in answers.items() if answer == "agrees"]
    return (
        f"{len(agree)} of {len(answers)} of its figures that can be judged lie where one new run of ours is expected: "
        f"{listing(agree)}. These are the small networks, trained from scratch with several seeds."
    )


def _fitted(journal: Journal) -> Iterable[str]:
    """Settings that the original states and that do not give its curves, with those that do."""
    pairs = {
        "EXP011": "With Adam at 0.001 our run learns more slowly than the original's ResNet-18; at 0.0001 it "
        "follows its curve",
        "EXP014": "With frozen BatchNorm evaluating, our frozen ResNet-18 ends higher than the original's; with "
        "BatchNorm in training mode, as code leaves it that only sets `requires_grad = False`, it follows the "
        "original's curve",
    }
    for name, text in pairs.items():
        written, fitted = journal.results[name], journal.results[f"{name}B"]
        yield (
            f"{text}: {name} {_percent(written)}, {name}B {_percent(fitted)}, the original "
            f"{written.entry.reference_accuracy:.2f}. The second was fitted to the curve: its own final "
            "figure does not judge it."
        )
    second = journal.results["EXP002"]
    yield (
        f"EfficientNet-B0 from scratch ends at {_percent(second)}, where the original has "
        f"{second.entry.reference_accuracy:.2f}: this one run overfits less. Why is not known "
        "([readings](readings.md))."
    )


def _spread(journal: Journal) -> Iterable[str]:
    lenet = journal.accuracy_spreads["EXP003"]
    assert lenet is not None
    points = 100 * lenet.total
    far = 1.96 * 2**0.5 * points
    yield (
        f"Runs of LeNet that differ in nothing but their seed have a standard deviation of {points:.2f} points "
        f"({lenet.total_df} degrees of freedom), so two single runs of one method lie up to {far:.1f} "
        "points apart in 95 of 100 cases. The original ranks methods by single runs: its four initializations lie "
        f"{_range(journal, range(3, 7)):.2f} points apart, its four optimizers {_range(journal, range(7, 11)):.2f}."
    )


def _range(journal: Journal, numbers: Sequence[int]) -> float:
    figures = [journal.results[f"EXP{number:03}"].entry.reference_accuracy or 0.0 for number in numbers]
    return max(figures) - min(figures)


def _ladder(journal: Journal, ours: Sequence[Finding]) -> Iterable[str]:
    yield (
        "How far does one get from scratch? The fast recipe adds an idea to the row above, on one small network. Its "
        f"six epochs take about as long as LeNet's twenty: {_seconds(journal, 'EXP024')} s (EXP024) and "
        f"{_seconds(journal, 'EXP040')} s (EXP040), each on one core of an AMD EPYC with bfloat16, beside other work. "
        "Nothing in it is tuned yet."
    )
    rows, before = [], None
    for name in LADDER:
        result = journal.complete[name]
        step = "" if before is None or name == "EXP030" else f"{_step(before, result):+.2f}"
        cost = f"{result.runs[0].training_pflop:.3f}"
        rows.append(f"| {name} | {result.entry.title} | {_percent(result)} | {step.replace('-', chr(8722))} | {cost} |")
        before = result
    yield "\n".join(["| | | accuracy | step | PFLOP |", "|---|---|---|---|---|", *rows])
    yield "A step is the mean difference over the seeds that both rows have."
    best = journal.complete["EXP030"]
    plain = [run.test.accuracy_without_flip for run in best.runs if run.test and run.test.accuracy_without_flip]
    yield (
        f"EXP030's score takes each test image together with its mirror image; without, it is "
        f"{100 * sum(plain) / len(plain):.2f}. The original's best from scratch is 75.77, and its best of all 95.28, "
        "from pretrained weights at 224 pixels."
    )
    decided = [finding for finding in ours if finding.answer in ("holds", "does not hold")]
    if decided:
        yield "Of what we expected of our own experiments, this is decided:"
        yield "\n".join(f"- *{f.statement.says}* ({f.statement.of}) It {f.answer}: {f.reason}." for f in decided)


def _step(before: Result, after: Result) -> float:
    """Points gained, over the seeds that both have."""
    first, second = ({run.seed: run.test.accuracy for run in r.runs if run.test} for r in (before, after))
    shared = first.keys() & second.keys()
    return 100 * sum(second[seed] - first[seed] for seed in shared) / len(shared)


def _seconds(journal: Journal, name: str) -> str:
    return f"{journal.results[name].runs[0].seconds.total:.0f}"


def _open(original: Sequence[Finding]) -> str:
    answers = [finding.answer for finding in original]
    return (
        f"Of {len(answers)} statements of the original, {answers.count('open')} are open and "
        f"{answers.count('cannot be tested')} cannot be tested: they need VGG-16, images of 224 pixels or more seeds. "
        "The report lists each with what would decide it."
    )


def main() -> int:
    """Write the page; returns an exit code."""
    write_if_changed(FINDINGS, page(Journal(ROOT / "outputs" / "reference")))
    print(FINDINGS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
