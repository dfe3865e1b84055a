"""What every run's notebook imports; the server that runs are forked from imports it once."""

import atexit
import gc
import os
import signal
import sys

FORK_SERVER = any("multiprocessing.forkserver" in word for word in sys.orig_argv)
if FORK_SERVER:  # the command handles Ctrl-C and ends the server
    signal.signal(signal.SIGINT, signal.SIG_IGN)

# The kernel's own default, which it would set too late: matplotlib reads it once.
os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
# Else the debugger, imported by the kernel, prints a warning.
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

import ipykernel.debugger
import ipykernel.kernelapp
import jupyter_client.provisioning
import nbformat
import papermill
import torchvision

import cifar_report.execution.worker
import cifar_report.report.plots
import cifar_report.report.sections
import cifar_report.run

cifar_report.report.plots.bars({"": 1.0}, "", label="")  # fonts, and what the first figure imports
if FORK_SERVER:
    atexit.register(os._exit, 0)  # nothing is left to clean up, and some libraries print errors when unloaded
nbformat.validate(nbformat.v4.new_notebook())  # compiles the schema
gc.freeze()  # collecting these objects in a fork would only copy their pages
