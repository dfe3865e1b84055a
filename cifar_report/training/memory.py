"""Memory: what a training step frees is kept for the next one; a batch size for which a GPU has enough."""

from __future__ import annotations

import copy
import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace

import torch
from torch import nn

from cifar_report.data.dataset import Dataset
from cifar_report.experiments.errors import first_line
from cifar_report.experiments.schema import Experiment
from cifar_report.training.loop import train

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h> of glibc
LARGEST = 32 * 2**20  # bytes: glibc's own limit of the threshold
# Messages of errors that are not `OutOfMemoryError`; cuDNN's, when every way to compute a convolution lacked memory
LACKS_MEMORY = "CUDA error: out of memory|ALLOC_FAILED|unable to find an engine"


def keep_freed_memory() -> bool:
    """Make this process keep blocks of up to `LARGEST` bytes that it frees; say whether it does.

    A training step on a CPU frees and asks for the same few blocks over and over. glibc maps each anew, and the system
    then clears every page of it. Larger blocks, as 64 images of 224 pixels need, still go back: kept, they leave gaps
    into which the next ones do not fit, and the process grows by 20 MB a step.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


@contextmanager
def suppress_out_of_memory() -> Iterator[list[str]]:
    """Leave the block where a GPU lacks memory: for a tensor, for its context, or for cuBLAS.

    The error goes at once, since its traceback holds the memory; the list that the block gets has its first line then.
    """
    lacking: list[str] = []
    try:
        yield lacking
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not re.search(LACKS_MEMORY, str(error)):
            raise
        lacking.append(first_line(error))


def batch_that_fits(model: nn.Module, dataset: Dataset, parameters: Experiment) -> int | None:
    """Half the batch size, or a quarter, and so on: the first with which a training step has enough memory.

    `None` if not even two images have.
    """
    model.zero_grad()  # what the training left
    batch = parameters.batch_size // 2
    while batch >= 2:
        torch.cuda.empty_cache()
        few = replace(dataset.train, images=dataset.train.images[:batch], labels=dataset.train.labels[:batch])
        step = parameters.model_copy(update={"epochs": 1, "batch_size": batch})
        with suppress_out_of_memory(), redirect_stdout(None):
            train(copy.deepcopy(model), replace(dataset, train=few, validation=few), step)
            return batch
        batch //= 2
    return None
