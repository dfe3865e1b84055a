"""Memory that a training step frees is kept for the next one, where the C library allows it to be asked for."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h> of glibc
LARGEST = 32 * 2**20  # bytes: glibc's own limit of the threshold


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
