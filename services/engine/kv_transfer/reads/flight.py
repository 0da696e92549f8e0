"""A read in progress in NIXL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.agent import Handle
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.checksum import entry_checksums, first_mismatch
from services.engine.kv_transfer.reads.peer import TransferPeer
from services.engine.kv_transfer.reads.read_request import ReadRequest


@dataclass(eq=False)
class ReadFlight:
    """A posted read. `ended`: NIXL reported DONE or an error; the handle must still be freed and the read
    settled.
    """

    read: ActiveRead
    peer: TransferPeer
    local: Region
    transfer: Handle
    attempts: int = 0
    ended: bool = False

    @property
    def num_bytes(self) -> int:
        """Bytes it moves."""
        return len(self.read.request.local_entries) * self.local.entry_bytes

    def mismatch(self) -> str | None:
        """Returns the fault of the bytes that arrived; None if they are right or have no checksums."""
        request = self.read.request
        if request.crc32 is None:
            return None
        if request.kind is RegionKind.PROBE:  # always read whole, perhaps into device memory
            found = [self.peer.landing.crc32]
        else:
            entries = np.asarray(request.local_entries, dtype=np.int32)
            found = entry_checksums(self.local, entries, request.crc_entries)
        run = first_mismatch(found, request.crc32)
        if run is None:
            return None
        first = run * request.crc_entries
        return f"the checksum of entries {first} to {first + request.crc_entries - 1} of the request differs"


def checked_entries(
    request: ReadRequest, local: Region, remote: Region
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """(local, remote) entry numbers, int32 [n]. Raises ValueError for an impossible request."""
    if local.entry_bytes != remote.entry_bytes:
        raise ValueError(f"entries are {local.entry_bytes} bytes here and {remote.entry_bytes} there")
    ours = _inside("local", request.local_entries, local)
    theirs = _inside("remote", request.remote_entries, remote)
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} local entries cannot take {len(theirs)} remote ones")
    if request.crc32 is not None:
        if local.memory_type != "DRAM" and request.kind is not RegionKind.PROBE:
            raise ValueError("checksums need host memory")
        if request.crc_entries <= 0 or len(request.crc32) * request.crc_entries != len(ours):
            raise ValueError(
                f"{len(request.crc32)} checksums of {request.crc_entries} entries for {len(ours)}"
            )
    return ours, theirs


def _inside(side: str, numbers: npt.ArrayLike, region: Region) -> npt.NDArray[np.int32]:
    entries = np.asarray(numbers)
    if entries.ndim != 1 or (entries.size and entries.dtype.kind not in "iu"):
        raise ValueError(f"the {side} entries are not a list of integers")
    if entries.size and not 0 <= int(entries.min()) <= int(entries.max()) < region.entry_count:
        outside = int(entries.max()) if int(entries.min()) >= 0 else int(entries.min())
        raise ValueError(f"{side} entry {outside} lies outside the region's {region.entry_count}")
    return np.ascontiguousarray(entries, dtype=np.int32)
