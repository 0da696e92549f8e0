"""Chooses the PoolDevice of a worker."""

from __future__ import annotations

from collections.abc import Sequence

from services.engine.kv_transfer.agents.pool_device import Host, PoolDevice
from services.engine.kv_transfer.agents.region import Region


def device_of(regions: Sequence[Region]) -> PoolDevice:
    """The GPU that holds one of the regions; the host if none does."""
    for region in regions:
        if region.memory_type == "VRAM":
            from services.engine.kv_transfer.agents.gpu import Gpu

            return Gpu(region.device_id)
    return Host()
