"""A read that NIXL carries out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.agent import Handle
from services.engine.kv_transfer.agents.region import Region
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.checksum import block_checksums, first_mismatch
from services.engine.kv_transfer.reads.peer import Peer
from services.engine.kv_transfer.reads.read_request import ReadRequest


@dataclass(eq=False)
class Flight:
    """`ended`: NIXL said DONE or failed; what is left is to free the handle and to settle the read."""

    read: ActiveRead
    peer: Peer
    local: Region
    transfer: Handle
    attempts: int = 0
    ended: bool = False

    @property
    def num_bytes(self) -> int:
        """Bytes it moves."""
        return len(self.read.request.local_blocks) * self.local.block_bytes

    def mismatch(self) -> str | None:
        """What is wrong with the bytes that arrived, None where nothing is or nobody asked."""
        request = self.read.request
        if request.crc32 is None:
            return None
        blocks = np.asarray(request.local_blocks, dtype=np.int32)
        run = first_mismatch(block_checksums(self.local, blocks, request.crc_blocks), request.crc32)
        if run is None:
            return None
        first = run * request.crc_blocks
        return f"the checksum of blocks {first} to {first + request.crc_blocks - 1} of the request differs"


def checked_blocks(
    request: ReadRequest, local: Region, remote: Region
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """(local, remote) block numbers, int32 [n]. Raises ValueError for what cannot be carried out."""
    if local.block_bytes != remote.block_bytes:
        raise ValueError(f"blocks are {local.block_bytes} bytes here and {remote.block_bytes} there")
    ours = _inside("local", request.local_blocks, local)
    theirs = _inside("remote", request.remote_blocks, remote)
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} local blocks cannot take {len(theirs)} remote ones")
    if request.crc32 is not None:
        if local.memory_type != "DRAM":
            raise ValueError("checksums need host memory")
        if request.crc_blocks <= 0 or len(request.crc32) * request.crc_blocks != len(ours):
            raise ValueError(f"{len(request.crc32)} checksums of {request.crc_blocks} blocks for {len(ours)}")
    return ours, theirs


def _inside(side: str, numbers: npt.ArrayLike, region: Region) -> npt.NDArray[np.int32]:
    blocks = np.asarray(numbers)
    if blocks.ndim != 1 or (blocks.size and blocks.dtype.kind not in "iu"):
        raise ValueError(f"the {side} blocks are no list of integers")
    if blocks.size and not 0 <= int(blocks.min()) <= int(blocks.max()) < region.block_count:
        outside = int(blocks.max()) if int(blocks.min()) >= 0 else int(blocks.min())
        raise ValueError(f"{side} block {outside} lies outside the region's {region.block_count}")
    return np.ascontiguousarray(blocks, dtype=np.int32)
