"""Does training on this machine's GPU keep what the package promises? `make gpu-check`; on a CPU, what applies there.

Runs on scikit-learn's digits, so it needs neither data nor a network. Each line says what was found, the last one
whether all promises hold.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from cifar_report.data.dataset import load_dataset
from cifar_report.execution.resources import gpus
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, validate
from cifar_report.records.record import now, read_record, run_folder
from cifar_report.run import Run
from cifar_report.training.build import build_model
from cifar_report.training.checkpoint import Checkpoint
from cifar_report.training.environment import describe_environment, find_device
from cifar_report.training.loop import train
from cifar_report.training.precision import TYPES

# Of the way that weights go in a training: another order of additions puts LeNet's 0.0004 apart, a state that is not
# restored at least 0.18. (Deeper networks with batch normalization, at such rates, differ by as much in both cases.)
CLOSE = 0.02
DROPOUT = {"model": "lenet", "lr": 0.05, "augment": ["alternating_flip", "shift", "cutout"], "mix": "cutmix"}
FAST = {"model": "fastnet", "whiten": True, "augment": ["alternating_flip", "shift", "cutout"], "mix": "cutmix"}
DIGITS = {"dataset": "digits", "train_limit": 256, "test_limit": 64, "epochs": 4, "precision": "float32", "lr": 0.1}


class StoppedError(Exception):
    """Stands for whatever ends a process."""


class Checks:
    """The checks, on one device; `failed` names those that did not hold."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.exact = device.type == "cpu"  # on a GPU additions have no fixed order
        self.failed: list[str] = []

    def say(self, name: str, holds: bool, found: str) -> None:
        """Print a line of the result."""
        print(f"{'ok    ' if holds else 'FAILED'}  {name}: {found}", flush=True)
        if not holds:
            self.failed.append(name)

    def trained(self, parameters: Experiment, **more: object) -> tuple[nn.Module, float]:
        """A network after its training on the device, and its last training loss."""
        model, dataset = build_model(parameters)[0].to(self.device), load_dataset(parameters, self.device)
        with redirect_stdout(None):
            history = train(model, dataset, parameters, **more).history  # type: ignore[arg-type]
        return model, history[-1].train_loss

    def alike(self, name: str, parameters: Experiment, one: nn.Module, other: nn.Module) -> None:
        """Two trainings of the same parameters: the same bits on a CPU, on a GPU close."""
        start, end, again = (
            torch.cat([weight.detach().cpu().double().flatten() for weight in model.parameters()])
            for model in (build_model(parameters)[0], one, other)
        )
        apart = ((again - end).norm() / (end - start).norm()).item()
        self.say(name, apart == 0 if self.exact else apart < CLOSE, f"weights {apart:.1e} of their way apart")

    def repeats(self) -> None:
        """Two trainings of one seed."""
        parameters = validate({**DIGITS, **DROPOUT})
        self.alike("one seed, twice", parameters, self.trained(parameters)[0], self.trained(parameters)[0])

    def resumes(self, folder: Path) -> None:
        """A training that stops after two epochs and goes on from its checkpoint, beside one that does not stop."""
        parameters = validate({**DIGITS, **DROPOUT, "lookahead": True, "schedule": "triangular"})
        whole, _ = self.trained(parameters)
        given = {"device": str(self.device), "started_at": now(), "environments": []}
        checkpoint = partial(Checkpoint, folder / "checkpoint.pt", "key", **given)

        def stop(epoch: object) -> None:
            if getattr(epoch, "epoch", 0) == 2:
                raise StoppedError

        try:
            self.trained(parameters, checkpoint=checkpoint(), on_epoch=stop)
            self.say("stopped", False, "the training did not stop after two epochs")
        except StoppedError:
            torch.rand(100)  # another process would have another state of the global generator
        self.alike("resumed", parameters, whole, self.trained(parameters, checkpoint=checkpoint())[0])

    def precisions(self) -> None:
        """Mixed precision learns what float32 learns, also where float16 overflows and skips its first three steps."""
        lacks = {"float16"} if self.device.type == "cpu" else set()  # which few CPUs compute with
        if self.device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
            lacks = {"bfloat16"}
        for model, more in {"fastnet": {}, "lenet": {"init": "kaiming_normal", "lr": 0.01, "epochs": 12}}.items():
            given = {**DIGITS, "model": model, **more}
            losses = {n: self.trained(validate({**given, "precision": n}))[1] for n in TYPES if n not in lacks}
            most = max(abs(loss - losses["float32"]) for loss in losses.values())
            ends = ", ".join(f"{name} ends at loss {loss:.3f}" for name, loss in losses.items())
            self.say(f"precisions of {model}", most < 0.1, ends)

    def frees(self) -> None:
        """A training leaves nothing on the GPU."""
        if self.device.type != "cuda":
            return
        parameters = validate({**DIGITS, **FAST})
        before = torch.cuda.memory_allocated()
        self.trained(parameters)
        left = torch.cuda.memory_allocated() - before
        self.say("memory", left < 2**20, f"{left:,} bytes left of {torch.cuda.max_memory_allocated():,} at most")

    def shares(self, folder: Path) -> None:
        """Two runs at once on one device."""
        words = [sys.executable, "-m", "cifar_report", "run", "EXP000", "EXP003", "--profile", "quick", "--jobs", "2"]
        words += ["--output", str(folder), "--runs-per-gpu", "2", "--set", "dataset=digits train_limit=256 epochs=2"]
        started = perf_counter()
        one = {"CUDA_VISIBLE_DEVICES": gpus()[0]} if gpus() else {}
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ | one)
        records = [read_record(run_folder(folder, name, 0)) for name in ("EXP000", "EXP003")]
        devices = sorted({r.environment.device for r in records if r and r.environment})
        complete = done.returncode == 0 and len(devices) == 1 and devices[0].startswith(self.device.type)
        self.say(
            "two runs at once", complete, f"{perf_counter() - started:.0f} s, on {' and '.join(devices) or 'nothing'}"
        )

    def overflows(self, folder: Path) -> None:
        """A batch that is too large is refused in a sentence."""
        if self.device.type != "cuda":
            return
        given = {**DIGITS, "model": "vgg16", "image_size": 512, "train_limit": 1024, "batch_size": 1024, "epochs": 1}
        run = Run(validate({**given, "output_dir": str(folder)}), "architectures")
        run.folder.mkdir(parents=True)
        found = "it had enough memory for 1,024 images of 512 pixels"
        with redirect_stdout(None):
            run.load_dataset()
            run.build_model()
            try:
                run.train()
            except RequestError as error:
                found = str(error)
        self.say("out of memory", "set a smaller one" in found or "enough" in found, found)


def main() -> int:
    """Run the checks; returns 1 if one failed."""
    device = find_device()
    described = describe_environment(device)
    print(f"torch {described.torch} on {described.device_name} ({device})")
    checks, started = Checks(device), perf_counter()
    with tempfile.TemporaryDirectory(prefix="cifar-report-gpu-check-") as temporary:
        checks.repeats()
        checks.resumes(Path(temporary))
        checks.precisions()
        checks.frees()
        checks.shares(Path(temporary) / "two")
        checks.overflows(Path(temporary) / "large")
    found = f"failed: {', '.join(checks.failed)}" if checks.failed else "all promises hold"
    print(f"{found}, {perf_counter() - started:.0f} s")
    return int(bool(checks.failed))


if __name__ == "__main__":
    sys.exit(main())
