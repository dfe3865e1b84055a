"""What every run's notebook imports: the server that runs are forked from imports it once, before the first."""

import gc
import os

# The kernel's own default, which it would set too late: matplotlib reads it once.
os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")

import ipykernel.kernelapp
import papermill
import torch
import torchvision

import cifar_report.pipeline.worker
import cifar_report.report.figures
import cifar_report.report.sections
import cifar_report.run

gc.freeze()  # what is here stays: collecting it in a fork would only copy its pages

__all__ = ["cifar_report", "ipykernel", "papermill", "torch", "torchvision"]
