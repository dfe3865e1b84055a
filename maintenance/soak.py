"""Kill runs and reports at random, fill their disk, damage their files: is a result lost, or a wrong one accepted?

`make soak COUNT=100 SEED=0`. Each trial disturbs four small runs in a folder of its own, up to three times, and then
lets one command finish. What is called complete must be what the undisturbed runs gave, after every disturbance.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from cifar_report.execution.plan import PlannedRun, make_plan
from cifar_report.records.record import RunRecord, read_record

EXPERIMENTS = ("EXP000", "EXP003")
SETTINGS = {"dataset": "digits", "epochs": "6", "train_limit": "1000"}
SEEDS = (0, 1)
FOLDERS = ("runs", "report")  # whose files are damaged
PATIENCE = 600.0  # seconds for a command that nothing disturbs
SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT")


def command(what: str, folder: Path, *more: str) -> list[str]:
    """A command on the trial's runs."""
    settings = " ".join(f"{name}={value}" for name, value in SETTINGS.items())
    seeds = ",".join(map(str, SEEDS))
    return [
        *(sys.executable, "-m", "cifar_report", what, *EXPERIMENTS, "--profile", "quick", "--output", str(folder)),
        *("--seeds", seeds, "--set", settings, "--jobs", "2", *more),
    ]


def start(arguments: list[str], most: int | None = None) -> subprocess.Popen:
    """Start a command in a session of its own; `most`: bytes beyond which it can write no file, as on a full disk."""

    def limited() -> None:
        if most is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            import resource  # not on Windows

            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    quiet = subprocess.DEVNULL
    return subprocess.Popen(arguments, stdout=quiet, stderr=quiet, start_new_session=True, preexec_fn=limited)


def finish(arguments: list[str]) -> None:
    """Let a command finish undisturbed; its last words where it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{' '.join(arguments[2:])} ended with {done.returncode}: {done.stderr[-2000:]}"


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    return [process.pid for process in psutil.Process(pid).children(recursive=True)]


def kill(process: subprocess.Popen, rng: random.Random, seconds: float) -> str:
    """Let a command run for a random time, then kill it, one of its processes, or all of them."""
    time.sleep(rng.uniform(0, seconds))
    name, whom = rng.choice(SIGNALS), rng.choice(("command", "process", "all"))
    below = descendants(process.pid)
    targets = {"command": [process.pid], "process": rng.sample(below, min(1, len(below))), "all": [process.pid, *below]}
    send(signal.Signals[name], targets[whom])
    await_end(process)  # one whose worker was killed goes on
    return f"{name} to {whom}"


def send(number: signal.Signals, targets: list[int]) -> None:
    """Send a signal to those processes that still run."""
    for target in targets:
        with suppress(ProcessLookupError):
            os.kill(target, number)


def await_end(process: subprocess.Popen) -> None:
    """Wait for a command's end; one that never ends is killed with all that it started, and an error."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        send(signal.SIGKILL, [process.pid, *descendants(process.pid)])
        raise


def disturb(folder: Path, rng: random.Random, seconds: float, kinds: list[str]) -> str:
    """Do one thing that should not happen; returns what."""
    kind = rng.choice(kinds)
    if kind == "damage":
        files = [path for name in FOLDERS for path in sorted((folder / name).rglob("*")) if path.is_file()]
        if not files:
            return "nothing to damage"
        path = rng.choice(files)
        os.truncate(path, int(rng.random() * path.stat().st_size) * rng.randint(0, 1))
        return f"damaged {path.suffix}"
    if kind == "full disk":
        process = start(command(rng.choice(("run", "report")), folder), most=int(10 ** rng.uniform(1, 6.5)))
        await_end(process)
        return f"full disk, exit code {process.returncode}"
    if kind == "two":
        both = [start(command(rng.choice(("run", "report")), folder)) for _ in range(2)]
        told = kill(both[0], rng, seconds)
        await_end(both[1])
        assert both[1].returncode in (0, 1), f"the other of two commands ended with {both[1].returncode}"
        return f"two commands, {told}"
    more = ("--executor", "ray") if kind == "ray" else ()
    return f"{kind}, {kill(start(command('run' if kind == 'ray' else kind, folder, *more)), rng, seconds)}"


def planned(folder: Path) -> list[PlannedRun]:
    """The trial's runs."""
    return make_plan(EXPERIMENTS, profile="quick", seeds=SEEDS, overrides=SETTINGS, output_dir=folder, read_only=True)


def check(folder: Path, reference: Path, *, all_of_them: bool = False) -> set[str]:
    """Whether what is called complete is what the undisturbed runs gave; returns the names of these runs."""
    complete = set()
    for run, model in zip(planned(folder), planned(reference), strict=True):
        state = run.state()
        if state.status != "complete":
            assert not all_of_them, f"{run.name} is {state.status}: {state.reason}"
            continue
        complete.add(run.name)
        ours, theirs = (told(read_record(each.folder)) for each in (run, model))
        assert ours == theirs, f"{run.name}: another record"
        with np.load(run.folder / "predictions.npz") as answers, np.load(model.folder / "predictions.npz") as expected:
            for name in expected:
                assert np.array_equal(answers[name], expected[name]), f"{run.name}: other {name}"
        if all_of_them:
            files = [sorted(path.name for path in each.folder.iterdir()) for each in (run, model)]
            assert files[0] == files[1], f"{run.name}: {files[0]} in place of {files[1]}"
            weights = [(each.folder / "model.safetensors").read_bytes() for each in (run, model)]
            assert weights[0] == weights[1], f"{run.name}: other weights"
    return complete


def told(record: RunRecord | None) -> list:
    """What a complete run's record says of it, but for times."""
    assert record is not None
    return [record.test, *(epoch.model_copy(update={"seconds": 0.0}) for epoch in record.epochs)]


def table(folder: Path) -> list[list[str]]:
    """What the report's table says of each run."""
    rows = pd.read_csv(folder / "report" / "results.csv", dtype=str)
    return rows[["experiment", "seed", "accuracy"]].to_numpy().tolist()


def main() -> int:
    """Run the trials; returns 1 at the first that lost something, whose folder is kept."""
    os.environ.pop("CIFAR_REPORT_BACKUP", None)
    os.environ["OMP_NUM_THREADS"] = "1"  # as Ray gives a run: other threads give other last bits
    count, seed = int(os.environ.get("COUNT", 100)), int(os.environ.get("SEED", 0))
    kinds = ["run"] * 3 + ["report"] * 2 + ["two"] * 2 + ["damage"] * 3 + ["full disk"] * 2
    kinds += ["ray"] if importlib.util.find_spec("ray") else []
    home = Path(tempfile.mkdtemp(prefix="cifar-report-soak-"))
    reference = home / "reference"
    started = time.monotonic()
    finish(command("report", reference))
    seconds = time.monotonic() - started
    counted: Counter[str] = Counter()
    for trial in range(count):
        rng, folder = random.Random(f"{seed} {trial}"), home / f"trial-{trial}"
        said: list[str] = []
        before: set[str] = set()
        try:
            for _ in range(rng.randint(1, 3)):
                said.append(disturb(folder, rng, seconds, kinds))
                done = check(folder, reference) if folder.is_dir() else set()
                lost = set() if said[-1].startswith("damaged") else before - done
                assert not lost, f"{', '.join(lost)}: complete before, and not after"
                before = done
                counted[f"{len(done)} of {len(SEEDS) * len(EXPERIMENTS)} runs complete after it"] += 1
            finish(command("report", folder))
            check(folder, reference, all_of_them=True)
            assert table(folder) == table(reference), "results.csv says something else"
            assert (folder / "report" / "report.html").stat().st_size > 0, "no report.html"
        except Exception as error:
            print(f"trial {trial} ({'; '.join(said)}): {error}\nits folder: {folder}", file=sys.stderr)
            return 1
        print(f"trial {trial}: {'; '.join(said)}", flush=True)
        counted.update(said)
        shutil.rmtree(folder)
    shutil.rmtree(home)
    print(
        f"\n{count} trials (seed {seed}), {time.monotonic() - started:.0f} s: nothing was lost, nothing false accepted"
    )
    print("\n".join(f"{number:4} x {what}" for what, number in sorted(counted.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
