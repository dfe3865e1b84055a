"""What tests share: real data where there is any, a local web server, a quick way to make runs."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from cifar_report.execution.resources import THREAD_VARIABLES, cores
from cifar_report.experiments.schema import Experiment, validate
from cifar_report.training import loop

# No test writes into a user's backup, cache or repository (Git names it to its hooks), or downloads anything but from
# its own server; what commands print is plain, also where GitHub executes them.
for _name in [
    "CIFAR_REPORT_BACKUP",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GITHUB_ACTIONS",
    "FORCE_COLOR",
    "PY_COLORS",
]:
    os.environ.pop(_name, None)
os.environ["CIFAR_REPORT_CACHE"] = str(Path(__file__).parents[1] / ".pytest_cache" / "cifar-report")
os.environ["CIFAR_REPORT_OFFLINE"] = "1"
for _name in ("CIFAR_REPORT_DATA", "CIFAR_REPORT_WEIGHTS"):  # tests work in folders of their own
    if os.environ.get(_name):
        os.environ[_name] = os.path.abspath(os.environ[_name])  # noqa: PTH100
# Tests that run side by side share the cores, and so does what they start: more threads than cores wait for each other.
_workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
_threads = max(1, min(2, cores() // int(_workers or 1)))
torch.set_num_threads(_threads)
for _name in THREAD_VARIABLES if _workers else ():  # not in the process that starts the workers
    os.environ.setdefault(_name, str(_threads))


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a local copy of CIFAR-10; without one the test is skipped."""
    given = os.environ.get("CIFAR_REPORT_DATA")
    if not given:
        pytest.skip("needs a local copy of CIFAR-10: set CIFAR_REPORT_DATA")
    return Path(given)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has no data, no weights, empty caches and no network; returns the cache folder."""
    for name in ("CIFAR_REPORT_DATA", "CIFAR_REPORT_WEIGHTS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CIFAR_REPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("CIFAR_REPORT_OFFLINE", raising=False)
    from cifar_report.data import download, sources
    from cifar_report.training import weights

    monkeypatch.setattr(sources, "ARCHIVE_URL", f"{NOWHERE}/cifar-10-python.tar.gz")
    monkeypatch.setattr(sources, "MIRROR_URL", f"{NOWHERE}/")
    monkeypatch.setattr(weights, "DOWNLOADS", {n: f"{NOWHERE}/{n}-00000000.pth" for n in weights.DOWNLOADS})
    download._failures.clear()
    return tmp_path / "cache"


NOWHERE = "http://127.0.0.1:9"  # the discard port, where nothing listens


@dataclass
class Server:
    """A web server whose answers a test decides: path -> (status, body, length announced)."""

    url: str
    answers: dict[str, tuple[int, bytes, int]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def serve(self, path: str, body: bytes, *, status: int = 200, announced: int | None = None) -> str:
        """Answer `path` with `body`, announcing another length if asked; returns the address."""
        self.answers[path] = (status, body, len(body) if announced is None else announced)
        return self.url + path


@pytest.fixture
def server() -> Iterator[Server]:
    """A local web server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            told.requests.append(f"{self.command} {self.path}")
            status, content, length = told.answers.get(self.path, (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            for name, value in told.headers.get(self.path, {}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Server(f"http://127.0.0.1:{httpd.server_port}/")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield told
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def interrupted() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which training is interrupted, as by Ctrl-C, when it has done so many epochs."""
    usual = loop.train_one_epoch

    @contextmanager
    def block(epochs: int) -> Iterator[None]:
        def stop(training: loop.Training, *given: Any) -> tuple[float, float]:
            if len(training.history) == epochs:
                raise KeyboardInterrupt
            return usual(training, *given)

        with mock.patch.object(loop, "train_one_epoch", stop), pytest.raises(KeyboardInterrupt):
            yield

    return block


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines that were printed since this was called last."""
    return lambda: capfd.readouterr().out.splitlines()


@pytest.fixture
def no_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of which no PDF is made: it takes two thirds of their time."""
    monkeypatch.setattr("cifar_report.report.export.write_pdf", lambda page, target: None)


@pytest.fixture
def tiny() -> Callable[..., Experiment]:
    """Make the parameters of a run that takes a second: digits, few images, one epoch."""

    def make(**changes: object) -> Experiment:
        plain = {"dataset": "digits", "train_limit": 100, "test_limit": 50, "epochs": 1}
        return validate({**plain, **changes})

    return make
