"""Memory with a known pattern, to check that a transport moves bytes unchanged."""

from __future__ import annotations

import zlib

import numpy as np

from services.engine.kv_transfer.agents.pool_device import PoolDevice
from services.engine.kv_transfer.agents.region import Region, RegionKind

PROBE_ENTRY_BYTES = 65_536
PROBE_ENTRIES = 16


class ProbeBuffer:
    """1 MiB of the pool's device as a PROBE region: between two GPUs, host memory would take another path
    than the pages. It must outlive the region's registration.
    """

    def __init__(self, device: PoolDevice, pattern: str | None = None) -> None:
        """Fills it from `pattern` (an incarnation, so that a stale peer's bytes never pass); None: zeros."""
        size = PROBE_ENTRY_BYTES * PROBE_ENTRIES
        if pattern is None:
            values = np.zeros(size, dtype=np.uint8)
        else:
            random = np.random.default_rng(np.frombuffer(pattern.encode(), dtype=np.uint8))
            values = random.integers(0, 256, size, dtype=np.uint8)
        self._device = device
        self._bytes = device.place(values)

    @property
    def region(self) -> Region:
        """The buffer as a PROBE region."""
        return Region(
            RegionKind.PROBE,
            self._bytes.address,
            PROBE_ENTRY_BYTES,
            PROBE_ENTRIES,
            device_id=self._device.device_id,
            memory_type=self._device.memory_type,
        )

    def clear(self) -> None:
        """Fills it with zeros, so that bytes of an earlier read cannot pass for the next one's."""
        self._bytes.clear()

    @property
    def crc32(self) -> int:
        """CRC-32 of all bytes as they are now."""
        return zlib.crc32(self._bytes.read().data)
