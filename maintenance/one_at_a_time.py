"""Run a command while no other process runs one under the same lock: `one_at_a_time.py LOCK COMMAND …`.

Two `make` in a fresh clone would otherwise both install into the same virtual environment.
"""

import contextlib
import subprocess
import sys
from pathlib import Path


def main(lock: str, *command: str) -> int:
    """Wait for the lock, run the command, and return its exit code. Standard library only: nothing is installed yet."""
    Path(lock).parent.mkdir(parents=True, exist_ok=True)
    with Path(lock).open("a") as stream:
        with contextlib.suppress(ImportError):  # Windows
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
