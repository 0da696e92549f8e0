"""The gateway process."""

from __future__ import annotations

import asyncio

from services.gateway.config import GatewayConfig
from services.gateway.gateway import Gateway
from services.gateway.returned_memory import return_large_blocks


async def serve(config: GatewayConfig, stop: asyncio.Event) -> None:
    """Serves both doors until `stop` is set, then drains. Raises CheckpointError or ConfigError at start."""
    return_large_blocks()
    gateway = Gateway(config)
    try:
        await gateway.start()
        await stop.wait()
    finally:
        await gateway.stop()
