"""Proofs that are too slow for every change: `make release-check`, or a part of it: `make release-check ONLY=commands`.

- `wheel`: wheel and sdist are built; the wheel alone, in an environment and a folder of its own, makes a report.
- `site`: the documentation is written as a site, and its links lead somewhere.
- `commands`: the commands in fenced blocks of README and docs are executed as they are written, in a fresh clone. What
  is left out is named, with its reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STARTS = ("make ", "cifar-report ", "papermill ")
ELSEWHERE = {  # commands that are not executed, and why
    r"PROFILE=full|--profile full(?!.*dataset=folder)": "days of a CPU; for a GPU",
    r"PROFILE=reference": "hours; its runs are on record",
    r"^make test$": "the tests themselves",
    r"--executor ray": "needs a cluster; tests start one",
}


def commands() -> Iterator[str]:
    """The commands in the pages' blocks of code, in order, each once, without what explains them beside them."""
    seen = set()
    for page in PAGES:
        for language, block in re.findall(r"(?ms)^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8")):
            if language not in ("", "bash"):
                continue
            for line in block.replace("\\\n", " ").splitlines():
                command = re.split(r" {4,}(?=\w)", line.strip())[0]
                if command.startswith(STARTS) and command not in seen:
                    seen.add(command)
                    yield command


def check_commands(folder: Path) -> None:
    """Execute what the pages say, in a fresh clone with two kinds of fruit."""
    clone = folder / "clone"
    _run(["git", "clone", "--quiet", str(ROOT), str(clone)], folder)
    _run(["make", ".venv/.installed"], clone)
    for number, (name, colour) in enumerate({"apple": (200, 30, 40), "lime": (60, 200, 50)}.items()):
        (clone / "fruit" / name).mkdir(parents=True)
        for picture in range(20):  # the guide's example of pictures of one's own
            noise = np.random.default_rng(100 * number + picture).integers(-30, 30, (48, 64, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(clone / "fruit" / name / f"{picture}.png")
    Image.fromarray(pixels).save(clone / "another.jpg")
    for command in commands():
        reason = next((why for pattern, why in ELSEWHERE.items() if re.search(pattern, command)), None)
        if reason:
            print(f"left out ({reason}): {command}", flush=True)
            continue
        started = perf_counter()
        _run(["bash", "-c", f". .venv/bin/activate && {command}"], clone)
        print(f"{perf_counter() - started:6.0f} s  {command}", flush=True)


def check_wheel(folder: Path) -> None:
    """Make a report from the wheel alone."""
    _run([sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(ROOT)], folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    _run([str(folder / "venv/bin/pip"), "install", "--quiet", str(wheel)], folder)
    empty = folder / "empty"
    empty.mkdir()
    words = ["report", "EXP000", "EXP003", "--profile", "quick", "--set", "dataset=digits epochs=1"]
    _run([str(folder / "venv/bin/cifar-report"), *words], empty)
    for name in ("report.html", "report.md", "results.csv"):
        if not (empty / "outputs/quick/report" / name).is_file():
            raise SystemExit(f"the wheel alone made no {name}")
    print(f"{wheel.name} alone makes a report", flush=True)


def check_site(folder: Path) -> None:
    """Write the site, which fails where a link leads nowhere."""
    _run([sys.executable, str(ROOT / "maintenance/write_site.py")], ROOT)
    print("the site is written, and its links lead somewhere", flush=True)


def _run(words: Sequence[str], folder: Path) -> None:
    """Run a command; its output is shown where it fails."""
    outer = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS")
    }
    done = subprocess.run(words, cwd=folder, env=outer, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


CHECKS = {"wheel": check_wheel, "site": check_site, "commands": check_commands}


def main() -> None:
    """Run the checks that the command line names, or all."""
    for name in sys.argv[1:] or CHECKS:
        with tempfile.TemporaryDirectory(prefix="cifar-report-release-") as folder:
            CHECKS[name](Path(folder))
    print("done")


if __name__ == "__main__":
    main()
