"""The gateway process."""

from __future__ import annotations

import asyncio
import ctypes
import os

from services.common.fairness.cores import switch_quickly
from services.common.rpc.endpoints import Endpoints
from services.common.telemetry.opened_tracer import opened_tracer
from services.gateway.config import GatewayConfig
from services.gateway.gateway import Gateway

# Constants of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


async def serve(config: GatewayConfig, endpoints: Endpoints, stop: asyncio.Event) -> None:
    """Serves both doors until `stop` is set, then drains. Raises CheckpointError or ConfigError at start."""
    _return_freed_memory()
    switch_quickly()
    with opened_tracer(endpoints.role, os.environ) as tracer:
        gateway = Gateway(config, endpoints, tracer=tracer)
        try:
            await gateway.start()
            await stop.wait()
        finally:
            await gateway.stop()


def _return_freed_memory() -> None:
    """Makes the C library return freed memory of 1 MiB or more at once; does nothing where it cannot.

    By default glibc raises this threshold each time it frees a large piece and keeps the smaller ones: a few
    bodies of tens of megabytes would hold hundreds for good.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        mallopt(_M_TRIM_THRESHOLD, 4 << 20)
