"""Proofs that are too slow for every change: `make release-check`, or a part of it: `make release-check ONLY=commands`.

- `wheel`: wheel and sdist are built; the wheel alone, in an environment and a folder of its own, makes a report.
- `site`: the documentation is written as a site, and its links lead somewhere.
- `colab`: two notebooks are executed as in Colab: in the versions of its image, without what it lacks.
- `quick`: the quick journal is run, and every network learns something: the lower end of its Wilson interval is above
  15 %. One whose ImageNet weights are not on this machine need not.
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
import torch
from PIL import Image

from cifar_report.journal.journal import Journal
from cifar_report.journal.statistics import wilson_interval

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ABOVE = 0.15  # accuracy, a fraction, that the quick journal's networks exceed
STARTS = ("make ", "cifar-report ", "papermill ")
ELSEWHERE = {  # commands that are not executed, and why
    r"PROFILE=full|--profile full(?!.*dataset=folder)": "days of a CPU; for a GPU",
    r"PROFILE=reference": "hours; its runs are on record",
    r"^make test$": "the tests themselves",
    r"--executor ray": "needs a cluster; tests start one",
}


# Of what this package requires, with what that brings along, as of Colab's image of August 2026. PyTorch is our own.
COLAB = """
click==8.4.2 filelock==3.32.3 ipykernel==6.17.1 ipython==7.34.0 Jinja2==3.1.6 joblib==1.5.3 jupyter_client==7.4.9
matplotlib==3.10.0 mistune==3.3.4 nbclient==0.10.4 nbconvert==7.17.1 nbformat==5.11.1 numpy==2.1.3 packaging==26.3
pandas==2.2.3 pillow==11.3.0 platformdirs==4.11.3 pooch==1.9.0 psutil==5.9.5 pyarrow==18.1.0 pydantic==2.13.4
pyzmq==26.2.1 requests==2.32.4 rich==13.9.4 safetensors==0.8.0 scikit-learn==1.6.1 scipy==1.16.3 tornado==6.5.7
tqdm==4.67.3 traitlets==5.7.1 typer==0.27.1
fsspec mpmath networkx setuptools sympy typing_extensions
"""
TORCH = ("torch", "torch-*", "torchgen", "torchvision*", "functorch", "nvidia*", "triton*", "cuda*")
NOTEBOOKS = {
    "02_initialization": "dataset, train_limit, test_limit, epochs = 'digits', 300, 100, 2",
    "colab_full_journal": "only, seeds = 'EXP000 EXP003', '0,1'; "
    "overrides = 'dataset=digits train_limit=300 test_limit=100 epochs=2'",
}
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

path, parameters = sys.argv[1:]
notebook = nbformat.read(path, 4)
notebook.cells = [cell for cell in notebook.cells if cell.id != "download"]  # which waits for a browser
(at,) = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(parameters))
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
outputs = [output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output]
print(*[text for text in outputs if "/cifar_report/" in text and "Warning" in text])  # such as pandas gives
"""


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


def check_colab(folder: Path) -> None:
    """Execute notebooks as in Colab, where first cells install what is lacking."""
    _run([sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "dist"), str(ROOT)], folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    _run([str(folder / "venv/bin/pip"), "install", "--quiet", *COLAB.split()], folder)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    for path in (path for pattern in TORCH for path in Path(torch.__file__).parents[1].glob(pattern)):
        (packages / path.name).symlink_to(path)
    empty = folder / "empty"
    empty.mkdir()
    given = {"COLAB_RELEASE_TAG": "as in Colab", "CIFAR_REPORT_PACKAGE": str(wheel), "CUDA_VISIBLE_DEVICES": ""}
    for name, parameters in NOTEBOOKS.items():
        words = [str(folder / "venv/bin/python"), "-c", EXECUTE, str(ROOT / "notebooks" / f"{name}.ipynb"), parameters]
        if warned := _run(words, empty, **given).strip():
            raise SystemExit(f"{name} in Colab: {warned}")
        print(f"{name} runs in Colab's versions", flush=True)
    page = (empty / "outputs/quick/report/report.html").read_text(encoding="utf-8")
    if "Warning: " in page:
        raise SystemExit(f"the report in Colab: {page[page.index('Warning: ') :][:500]}")


def check_quick(folder: Path) -> None:
    """Run the quick journal on CIFAR-10: each experiment must end above chance, or it shows nothing."""
    started = perf_counter()
    _run([sys.executable, "-m", "cifar_report", "run", "--profile", "quick", "--output", str(folder)], ROOT)
    minutes, ends = (perf_counter() - started) / 60, {}
    for record in Journal(folder).records:
        assert record.test is not None  # a complete run has a score
        if record.data is None or record.data.stand_in:
            raise SystemExit("the quick journal needs CIFAR-10")
        if record.weights is not None or record.parameters["weights"] is None:
            ends[record.experiment] = wilson_interval(record.test.correct, record.test.total)[0]
    if at_chance := [f"{name} ({end:.1%})" for name, end in ends.items() if end <= ABOVE]:
        raise SystemExit(f"at chance in the quick journal: {', '.join(at_chance)}")
    lowest = min(ends, key=lambda name: ends[name])
    print(f"{len(ends)} runs of the quick journal in {minutes:.0f} minutes, all above {ABOVE:.0%}", flush=True)
    print(f"the lowest: {lowest}, {ends[lowest]:.1%}", flush=True)


def check_site(folder: Path) -> None:
    """Write the site, which fails where a link leads nowhere."""
    _run([sys.executable, str(ROOT / "maintenance/write_site.py")], ROOT)
    print("the site is written, and its links lead somewhere", flush=True)


def _run(words: Sequence[str], folder: Path, **given: str) -> str:
    """Run a command, with more environment variables if given; its output is shown where it fails, and returned."""
    without = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "CIFAR_REPORT_BACKUP")
    outer = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(words, cwd=folder, env=outer | given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


CHECKS = {
    "wheel": check_wheel,
    "colab": check_colab,
    "site": check_site,
    "quick": check_quick,
    "commands": check_commands,
}


def main() -> None:
    """Run the checks that the command line names, or all."""
    for name in sys.argv[1:] or CHECKS:
        with tempfile.TemporaryDirectory(prefix="cifar-report-release-") as folder:
            CHECKS[name](Path(folder))
    print("done")


if __name__ == "__main__":
    main()
