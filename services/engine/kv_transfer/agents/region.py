"""Memory that a worker lets its peers read, described by plain integers: nothing to unpickle."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MEMORY_TYPES = ("DRAM", "VRAM")
_MOST_ENTRIES = 2**31 - 1
_ADDRESSES = 2**64


class RegionKind(enum.Enum):
    """What a region holds; a worker offers at most one region of each kind."""

    KV = "kv"
    """KV pages; an entry is one layer page, numbered page * num_layers + layer."""
    EMBEDDING = "embedding"
    """Image embeddings; an entry is a page of rows."""
    PROBE = "probe"
    """A constant pattern that shows whether a transport moves bytes unchanged, and how fast."""


@dataclass(frozen=True)
class Region:
    """`entry_count` equal entries of `entry_bytes` bytes, one after another from `base_address` on.

    The owner keeps the memory alive and in place for as long as a TransferThread has it.
    """

    kind: RegionKind
    base_address: int
    entry_bytes: int
    entry_count: int
    device_id: int = 0
    memory_type: str = "DRAM"

    def __post_init__(self) -> None:
        """Raises ValueError for a region that cannot exist."""
        if self.memory_type not in MEMORY_TYPES:
            raise ValueError(f"memory_type is {self.memory_type!r}, not one of {', '.join(MEMORY_TYPES)}")
        if self.base_address <= 0 or self.entry_bytes <= 0 or self.entry_count <= 0 or self.device_id < 0:
            raise ValueError(f"an empty or impossible region: {self}")
        if self.entry_count > _MOST_ENTRIES or self.base_address + self.total_bytes > _ADDRESSES:
            raise ValueError(f"a region beyond all addresses or of over {_MOST_ENTRIES} entries: {self}")

    @property
    def total_bytes(self) -> int:
        """Bytes from the first entry to the end of the last."""
        return self.entry_bytes * self.entry_count
