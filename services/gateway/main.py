"""The gateway process."""

from __future__ import annotations

import asyncio

from services.gateway.config import GatewayConfig
from services.gateway.gateway import Gateway


async def serve(config: GatewayConfig, stop: asyncio.Event) -> None:
    """Serves both doors until `stop` is set, then drains. Raises CheckpointError or ConfigError at start."""
    gateway = Gateway(config)
    try:
        await gateway.start()
        await stop.wait()
    finally:
        await gateway.stop()
