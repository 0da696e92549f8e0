"""Memory that goes back to the system as soon as it is free."""

from __future__ import annotations

import ctypes

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_large_blocks() -> None:
    """From now on blocks of 1 MiB and more do; where the C library offers no such setting, nothing changes.

    Left to itself glibc raises the size from which they do with every long body that is freed, and keeps what
    is shorter: some requests of tens of megabytes, refused or not, would cost hundreds for good.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        mallopt(_M_TRIM_THRESHOLD, 4 << 20)
