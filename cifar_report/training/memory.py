"""Memory: what a training step frees is kept for the next one; a GPU that has too little."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cifar_report.experiments.errors import first_line

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
