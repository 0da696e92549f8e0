"""Memory with a known pattern, to check that a transport moves bytes unchanged."""

from __future__ import annotations

import zlib

import numpy as np

from services.engine.kv_transfer.agents.region import Region, RegionKind

PROBE_ENTRY_BYTES = 65_536
PROBE_ENTRIES = 16


class ProbeBuffer:
    """1 MiB of host memory as a PROBE region; it must outlive the region's registration."""

    def __init__(self, pattern: str | None = None) -> None:
        """Fills it from `pattern` (an incarnation, so that a stale peer's bytes never pass); None: zeros."""
        size = PROBE_ENTRY_BYTES * PROBE_ENTRIES
        if pattern is None:
            self._bytes = np.zeros(size, dtype=np.uint8)
        else:
            random = np.random.default_rng(np.frombuffer(pattern.encode(), dtype=np.uint8))
            self._bytes = random.integers(0, 256, size, dtype=np.uint8)

    @property
    def region(self) -> Region:
        """The buffer as a PROBE region."""
        return Region(RegionKind.PROBE, self._bytes.ctypes.data, PROBE_ENTRY_BYTES, PROBE_ENTRIES)

    def clear(self) -> None:
        """Fills it with zeros, so that bytes of an earlier read cannot pass for the next one's."""
        self._bytes.fill(0)

    @property
    def crc32(self) -> int:
        """CRC-32 of all bytes as they are now."""
        return zlib.crc32(self._bytes.data)
