"""CRC-32 of blocks in host memory."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.region import Region


def block_checksums(region: Region, blocks: npt.NDArray[np.int32], run: int) -> list[int]:
    """One zlib CRC-32 per `run` consecutive entries of `blocks` (int32 [n], n a multiple of `run`), over the
    bytes of those blocks in that order. What a source announces and a reader compares.

    Raises ValueError for device memory, a block outside the region or an n that `run` does not divide.
    """
    if region.memory_type != "DRAM":
        raise ValueError("checksums need host memory")
    if run <= 0 or len(blocks) % run:
        raise ValueError(f"{len(blocks)} blocks are not runs of {run}")
    if len(blocks) and not 0 <= int(blocks.min()) <= int(blocks.max()) < region.block_count:
        raise ValueError(f"a block lies outside the region's {region.block_count}")
    return [_checksum(region, blocks[first : first + run]) for first in range(0, len(blocks), run)]


def first_mismatch(found: Sequence[int], expected: Sequence[int]) -> int | None:
    """Index of the first run whose checksum differs, None where all agree."""
    pairs = enumerate(zip(found, expected, strict=True))
    return next((index for index, (ours, theirs) in pairs if ours != theirs), None)


def _checksum(region: Region, blocks: npt.NDArray[np.int32]) -> int:
    value = 0
    # Adjacent blocks are one range: a single pass of zlib without the interpreter between.
    breaks = np.flatnonzero(np.diff(blocks.astype(np.int64)) != 1) + 1
    for stretch in np.split(blocks, breaks):
        address = region.base_address + int(stretch[0]) * region.block_bytes
        view = (ctypes.c_char * (len(stretch) * region.block_bytes)).from_address(address)
        value = zlib.crc32(view, value)
    return value
