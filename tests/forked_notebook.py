"""Notebooks executed as papermill does, in kernels forked from a process that has torch imported."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import papermill

from cifar_report.execution.kernel import ForkedKernel

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["cifar_report.execution.preload"])


def execute(notebook: Path, folder: Path, given: dict[str, Any]) -> int | None:
    """Execute a notebook in a folder, as `out.ipynb`; returns the exit code of its process."""
    process = CONTEXT.Process(target=_execute, args=(notebook, folder, given))
    process.start()
    process.join()
    return process.exitcode


def _execute(notebook: Path, folder: Path, given: dict[str, Any]) -> None:
    os.chdir(folder)
    kernel = ForkedKernel()  # before this process has threads
    options = {"kernel_name": "python3", "progress_bar": False, "kernel_manager_class": kernel.manager_class()}
    try:
        papermill.execute_notebook(str(notebook), "out.ipynb", parameters=given, **options)
    finally:
        kernel.kill()
        kernel.wait()
