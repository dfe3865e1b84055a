"""Downloads that are either whole and verified, or an error: nothing half-done is ever used.

Addresses stand where they are used: CIFAR-10's in `sources.py`, the weights' in `training/weights.py`. A file gets
its name once its digest is verified; a broken download starts again from nothing.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from pathlib import Path
from time import monotonic

from cifar_report.experiments.errors import RequestError
from cifar_report.records.files import atomic_file

# Seconds for which a failed download is not tried again: longer than all addresses take to time out, so that a plan of
# many runs waits once.
REMEMBERED = 600
TIMEOUT = 30  # seconds without a byte, after which a server counts as unreachable
OFFLINE = "CIFAR_REPORT_OFFLINE"  # set to anything, this environment variable forbids downloads


class DownloadError(RequestError):
    """A file cannot be had from one address; other sources may still have it."""


_failures: dict[str, tuple[float, str]] = {}  # of an address: when it failed, and how


def download(url: str, folder: Path, filename: str, *, digest: str | None) -> Path:
    """Fetch `url` to `folder/filename` unless a file with that digest is there already.

    `digest` is as pooch writes it (`"md5:…"`, `"sha256:…"`, of which the first characters are enough); `None` asks the
    server for one.

    Raises:
        DownloadError: the server cannot be reached, does not have the file, stops half-way, or sends another file.
    """
    import requests

    with warnings.catch_warnings(action="ignore"):  # tqdm's, in a notebook without widgets
        import pooch

    offline, file = os.environ.get(OFFLINE), folder / filename
    failed, problem = _failures.get(url, (-math.inf, ""))
    if monotonic() - failed < REMEMBERED and not offline:
        raise DownloadError(problem)
    headers = {"Accept-Encoding": "identity"}  # a compressed transfer would hide the file's length
    try:
        algorithm, _, wanted = (digest or ("" if offline else _digest_by_server(url)) or "sha256:").partition(":")
        if file.is_file() and pooch.file_hash(str(file), algorithm).startswith(wanted):
            return file
        if offline:
            raise DownloadError(f"{url}: downloads are switched off ({OFFLINE})")
        fetch = pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(), timeout=TIMEOUT, headers=headers, chunk_size=1 << 16
        )
        with atomic_file(file) as part:
            fetch(url, part, None)
            if not pooch.file_hash(str(part), algorithm).startswith(wanted):
                raise OSError("the file received is not the expected one (wrong checksum)")
        return file
    except requests.HTTPError as error:
        problem = f"the server answers {error.response.status_code}"
    except requests.RequestException as error:
        problem = f"the server cannot be reached, or the connection was cut ({type(error).__name__})"
    except OSError as error:  # of the system, if it has an explanation
        problem = f"cannot store it in {folder}: {error.strerror}" if error.strerror else str(error)
    _failures[url] = monotonic(), f"{url}: {problem}"
    raise DownloadError(f"{url}: {problem}")


def _digest_by_server(url: str) -> str | None:
    """The SHA-256 that the Hugging Face hub states for a file it serves, if the server states one."""
    import requests

    answer = requests.head(url, timeout=TIMEOUT, allow_redirects=False)
    answer.raise_for_status()
    tag = answer.headers.get("X-Linked-Etag", "").strip('"')
    return f"sha256:{tag}" if len(tag) == 64 else None


def named_folder(parameter: str, value: str | None, variable: str) -> tuple[Path, str] | None:
    """The folder that a parameter or else a variable names, which must exist, and which of them; `None`: neither."""
    if not (given := value or os.environ.get(variable)):
        return None
    origin, folder = parameter if value else f"the environment variable {variable}", Path(given).expanduser()
    if not folder.is_dir():
        raise RequestError(f"{origin} names the folder {folder}, which does not exist")
    return folder, origin


def cache_folder() -> Path:
    """Where data and weights are kept between runs: `$CIFAR_REPORT_CACHE`, else the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("CIFAR_REPORT_CACHE") or platformdirs.user_cache_dir("cifar-report"))
