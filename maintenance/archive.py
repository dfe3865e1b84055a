"""A journal in one file, for Zenodo, a teacher or a colleague: `make archive PROFILE=quick`.

It holds the code, notebooks and parameters of this clone, the records and the report of one output folder, and the
installed packages with their versions; `ARCHIVE.md` in it says how to write the report again. Trained weights stay
behind, and other output folders.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from cifar_report import __version__
from cifar_report.experiments.errors import RequestError
from cifar_report.records.files import CHECKPOINT, WEIGHTS, atomic_file
from cifar_report.records.record import now

EXTENDED = ("cifar_report", "notebooks", "params")  # folders in which one's own files are packed, too
ROOT = Path(__file__).resolve().parents[1]
README = """\
# A journal of cifar-report {version}

Code: commit {commit}{changed}. Records and report: `{folder}`. Packed at {now}.
`environment.txt` lists the installed packages. To write the report again from the records, without training:

    make .venv/.installed
    .venv/bin/cifar-report report --no-run --output {folder}
"""


def git(*words: str) -> str:
    """What a git command prints about this clone."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    if done.returncode:
        raise RequestError(f"only a git clone can be packed: {done.stderr.strip()}")
    return done.stdout


def contents(output: Path) -> Iterator[tuple[str, bytes]]:
    """The archive's files: names, with / between folders, and bytes."""
    # Also what Git does not know yet, such as the file of an experiment that `cifar-report new` has added.
    new = git("ls-files", "-z", "--others", "--exclude-standard", *EXTENDED)
    for name in (git("ls-files", "-z") + new).split("\0"):
        if name and not name.startswith("outputs/") and (ROOT / name).is_file():
            yield name, (ROOT / name).read_bytes()
    folder = f"outputs/{output.name}"
    for path in sorted(output.rglob("*")):
        inside = path.relative_to(output)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.is_file() and path.name not in (WEIGHTS, CHECKPOINT) and not hidden:
            yield f"{folder}/{inside.as_posix()}", path.read_bytes()
    packages = sorted(f"{d.metadata['Name']}=={d.version}" for d in distributions())
    yield "environment.txt", "".join(f"{line}\n" for line in dict.fromkeys(packages)).encode()
    changed = ", with changes" if git("status", "--porcelain") else ""
    facts = {"version": __version__, "commit": git("rev-parse", "HEAD").strip(), "changed": changed}
    yield "ARCHIVE.md", README.format(**facts, folder=folder, now=now()).encode()


def main() -> int:
    """Pack an output folder; returns 2, with a line on stderr, where there is nothing to pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="output folder, such as outputs/quick")
    output = parser.parse_args().output.resolve()
    try:
        if not (output / "report" / "report.html").is_file():
            raise RequestError(f"{output} holds no report: `make report` writes one, with the same PROFILE or OUTPUT")
        top = f"cifar-report-{output.name}"
        target = output.with_name(f"{top}.zip")
        with atomic_file(target) as temporary, ZipFile(temporary, "w", ZIP_DEFLATED) as archive:
            for name, content in contents(output):
                entry = ZipInfo(f"{top}/{name}")
                entry.external_attr = 0o644 << 16  # or `unzip` makes files that nobody may read
                archive.writestr(entry, content, ZIP_DEFLATED)
    except (RequestError, OSError) as error:
        print(f"archive: {error}", file=sys.stderr)
        return 2
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
