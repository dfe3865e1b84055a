"""What every run's notebook imports: the server that runs are forked from imports it once, before the first."""

import atexit
import gc
import os
import signal
import sys

FORK_SERVER = any("multiprocessing.forkserver" in word for word in sys.orig_argv)
if FORK_SERVER:  # Ctrl-C is the command's business; it ends the server too
    signal.signal(signal.SIGINT, signal.SIG_IGN)

# The kernel's own default, which it would set too late: matplotlib reads it once.
os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # the debugger, imported by the kernel, says so otherwise

import ipykernel.debugger
import ipykernel.kernelapp
import jupyter_client.provisioning
import nbformat
import papermill
import torch
import torchvision

import cifar_report.execution.worker
import cifar_report.report.plots
import cifar_report.report.sections
import cifar_report.run

cifar_report.report.plots.bars({"": 1.0}, "", label="")  # fonts, and what the first figure imports
if FORK_SERVER:
    atexit.register(
        os._exit, 0
    )  # the server has nothing to tidy up, and some libraries complain where they are unloaded
nbformat.validate(nbformat.v4.new_notebook())  # compiles the schema
gc.freeze()  # what is here stays: collecting it in a fork would only copy its pages

__all__ = ["cifar_report", "ipykernel", "jupyter_client", "papermill", "torch", "torchvision"]
