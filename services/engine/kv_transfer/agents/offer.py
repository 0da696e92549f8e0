"""What a reader needs to know about a worker to read its memory."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.kv_transfer.agents.region import Region, RegionKind


@dataclass(frozen=True)
class Offer:
    """One worker incarnation's memory, as it travels in a handshake.

    `agent_name` is unique per incarnation; `agent_metadata` is opaque; `probe_crc32` is zlib's CRC-32 over
    all bytes of the PROBE region.
    """

    agent_name: str
    agent_metadata: bytes
    regions: tuple[Region, ...]
    probe_crc32: int
    incarnation: str

    def region(self, kind: RegionKind) -> Region | None:
        """The region of a kind; None if the worker has none."""
        return next((region for region in self.regions if region.kind is kind), None)
