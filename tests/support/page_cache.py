"""Which pages of a file are in the kernel's page cache."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path


def drop_pages(path: Path) -> None:
    """Writes out what is not yet on disk, then asks the kernel to forget the file's pages."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_pages(path: Path) -> set[int]:
    """Numbers of the file's pages that are in memory, whichever process read them."""
    pages = (ctypes.c_ubyte * -(-path.stat().st_size // mmap.PAGESIZE))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        address, length = ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped))
        failed = ctypes.CDLL(None, use_errno=True).mincore(address, length, pages)
        # While it lives, the file cannot be unmapped.
        del start
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return {number for number, state in enumerate(pages) if state & 1}
