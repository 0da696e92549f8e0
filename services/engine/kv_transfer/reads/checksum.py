"""CRC-32 of entries in host memory."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.region import Region


def entry_checksums(region: Region, entries: npt.NDArray[np.int32], run: int) -> list[int]:
    """One zlib CRC-32 per `run` consecutive entries of `entries` (int32 [n], n a multiple of `run`), over the
    bytes of those entries in that order. Sources announce these checksums, readers compare them.

    Raises ValueError for device memory, an entry outside the region or an n that `run` does not divide.
    """
    if region.memory_type != "DRAM":
        raise ValueError("checksums need host memory")
    if run <= 0 or len(entries) % run:
        raise ValueError(f"{len(entries)} entries are not runs of {run}")
    if len(entries) and not 0 <= int(entries.min()) <= int(entries.max()) < region.entry_count:
        raise ValueError(f"an entry lies outside the region's {region.entry_count}")
    return [_checksum(region, entries[first : first + run]) for first in range(0, len(entries), run)]


def first_mismatch(found: Sequence[int], expected: Sequence[int]) -> int | None:
    """Index of the first run whose checksum differs; None if all agree."""
    pairs = enumerate(zip(found, expected, strict=True))
    return next((index for index, (ours, theirs) in pairs if ours != theirs), None)


def _checksum(region: Region, entries: npt.NDArray[np.int32]) -> int:
    value = 0
    # Adjacent entries form one range, which takes a single call of zlib.
    breaks = np.flatnonzero(np.diff(entries.astype(np.int64)) != 1) + 1
    for stretch in np.split(entries, breaks):
        address = region.base_address + int(stretch[0]) * region.entry_bytes
        view = (ctypes.c_char * (len(stretch) * region.entry_bytes)).from_address(address)
        value = zlib.crc32(view, value)
    return value
