"""Notebook kernels: new processes, or forks of a process that has imported torch, which start at once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from cifar_report.records.key import COLAB, LESSON
from cifar_report.records.lock import folder_lock, is_locked

FOLDER = "cifar-report-kernel-"  # what the names of kernels' temporary folders begin with
# Use the kernel of this environment, whatever kernels the user has installed elsewhere.
KERNEL_ENVIRONMENT = {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONSTARTUP": "", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def execute_notebook(notebook: Path, output: Path, parameters: dict, *, kernel: ForkedKernel | None = None) -> None:
    """Execute a notebook with papermill, in `kernel` or else in a new kernel `python3` of this environment.

    Its lessons are left out, and its cells for Colab: what they teach is for who opens the notebook, and would cost
    every run its time; what they install is there, and the browser that they download to is not.

    Raises:
        papermill.PapermillExecutionError: a cell failed. Other exceptions: the kernel could not start or died.
    """
    import nbformat
    import papermill
    from traitlets.config import Config

    # The kernel ends before its folder goes, and also where the folder cannot be made.
    # On Windows it may have files open a moment longer: `remove_leftovers` is for that.
    new_folder = partial(tempfile.TemporaryDirectory, prefix=FOLDER, dir=short_folder(), ignore_cleanup_errors=True)
    with killed_afterwards(kernel), new_folder() as folder, folder_lock(Path(folder)), killed_afterwards(kernel):
        output.parent.mkdir(parents=True, exist_ok=True)
        # Unix sockets where there are any: no other user of the machine can connect, and two kernels cannot choose the
        # same port. The folder is our own: all kernels share the default one, and what is killed leaves its key there.
        ipc = {"transport": "ipc", "ip": f"{folder}/kernel", "connection_file": f"{folder}/kernel.json"}
        content = nbformat.read(notebook, as_version=4)
        content.cells = [cell for cell in content.cells if not {LESSON, COLAB} & {*cell.metadata.get("tags", [])}]
        nbformat.write(content, f"{folder}/{notebook.name}")
        # IPython's own folder and no $PYTHONSTARTUP: a user's start-up files define no variables.
        with mock.patch.dict(os.environ, KERNEL_ENVIRONMENT | {"IPYTHONDIR": f"{folder}/ipython"}):
            papermill.execute_notebook(
                _literal(f"{folder}/{notebook.name}"),
                _literal(str(output)),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                shutdown_kernel="immediate",  # otherwise ipykernel may report its own interruption
                config=Config({"KernelManager": ipc if os.name == "posix" else {}}),
                **({"kernel_manager_class": kernel.manager_class()} if kernel else {}),
            )


def remove_leftovers() -> None:
    """Remove the folders of kernels whose processes were killed."""
    for folder in Path(short_folder() or tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with suppress(OSError):  # another user's
            if time.time() - folder.stat().st_mtime > 60 and not is_locked(folder):  # locked as soon as it is made
                shutil.rmtree(folder)


def _literal(path: str) -> str:
    """A path for papermill, which puts parameters in the place of words in braces."""
    return path.replace("{", "{{").replace("}", "}}")


def short_folder() -> str | None:
    """A folder whose name leaves room for that of a socket, which may have 103 bytes; `None`: the usual one does."""
    return "/tmp" if os.name == "posix" and len(os.fsencode(tempfile.gettempdir())) > 65 else None  # noqa: S108


@contextmanager
def killed_afterwards(kernel: ForkedKernel | None) -> Iterator[None]:
    """End the kernel afterwards, also if no notebook was executed in it: it would wait, and its parent with it."""
    try:
        yield
    finally:
        if kernel:
            kernel.kill()
            kernel.wait()


def notebook_executor() -> Callable[[Path, Path, dict], None]:
    """A function that executes one notebook, if possible in a kernel forked from this process now, with its imports."""
    return partial(execute_notebook, kernel=ForkedKernel() if ForkedKernel.possible() else None)


class ForkedKernel:
    """A kernel forked from this process before it has threads; it waits until a notebook is executed in it.

    Starting a kernel and importing torch takes seconds; forking a process that has imported torch takes none.
    """

    @staticmethod
    def possible() -> bool:
        """Whether this process forks safely: on Linux, where it has no threads of its own."""
        return sys.platform == "linux" and threading.active_count() == 1

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, kernel_end = context.Pipe()
        self.process = context.Process(target=_wait_for_notebook, args=(kernel_end, self.connection))
        with warnings.catch_warnings():  # Python counts numpy's threads, which survive a fork
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        kernel_end.close()
        self.pid, self.kill, self.terminate = self.process.pid, self.process.kill, self.process.terminate

    # The other methods of subprocess.Popen that jupyter_client calls.
    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.process.pid and self.process.is_alive():
            os.kill(self.process.pid, number)

    def manager_class(self) -> type:
        """A kernel manager whose kernel is this one."""
        from jupyter_client.manager import AsyncKernelManager
        from jupyter_client.provisioning import LocalProvisioner

        kernel = self

        class Provisioner(LocalProvisioner):
            parent: Any
            process: Any

            async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
                kernel.connection.send((self.parent.connection_file, options["env"]))
                self.process, self.pid, self.pgid = kernel, kernel.pid, None
                return self.connection_info

        class Manager(AsyncKernelManager):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                self.provisioner = Provisioner(kernel_id="", kernel_spec=self.kernel_spec, parent=self)

        return Manager


def _wait_for_notebook(connection: Any, parents_end: Any) -> None:
    """Wait for a connection file, then be the kernel that it describes."""
    parents_end.close()  # so that the end of the parent is noticed
    end_with(os.getppid())
    os.setsid()  # it is interrupted through its parent
    try:
        connection_file, environment = connection.recv()
    except EOFError:
        return
    os.environ.update({**environment, "JPY_PARENT_PID": str(os.getppid())})
    from ipykernel.kernelapp import IPKernelApp

    if "OMP_NUM_THREADS" in environment and "torch" in sys.modules:  # perhaps imported before the variable was set
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    app = IPKernelApp.instance()
    app.initialize(["-f", connection_file])
    app.start()


def end_with(parent: int, command: psutil.Process | None = None) -> None:
    """End this process when its parent, or the command that it works for, has ended in whatever way."""

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):  # the command has ended
            while os.getppid() == parent:
                if command and (not command.is_running() or command.status() == psutil.STATUS_ZOMBIE):
                    break
                time.sleep(0.5)
        psutil.Process().kill()

    threading.Thread(target=watch, daemon=True).start()
