"""Returns freed memory to the operating system."""

from __future__ import annotations

import ctypes

# Constants of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_large_blocks() -> None:
    """Makes the C library return freed blocks of 1 MiB or more at once; does nothing where it cannot.

    By default glibc raises this threshold each time a large block is freed and keeps smaller blocks: a few
    bodies of tens of megabytes would hold hundreds for good.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        mallopt(_M_TRIM_THRESHOLD, 4 << 20)
