"""A gateway of a tokenizer directory alone, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from services.gateway.config import GatewayConfig
from services.gateway.gateway import Gateway
from tests.support.endpoints import ENDPOINTS


@dataclass
class Door:
    """Clients of both doors."""

    http: httpx.AsyncClient
    channel: grpc.aio.Channel


@contextlib.asynccontextmanager
async def open_tokenizer(directory: Path, **settings: Any) -> AsyncIterator[Door]:
    """Serves on free ports for the length of the block."""
    gateway = Gateway(
        GatewayConfig(
            tokenizer=str(directory),
            http_port=0,
            grpc_port=0,
            operator_port=0,
            grace_seconds=0.2,
            **settings,
        ),
        ENDPOINTS,
    )
    await gateway.start()
    base = f"http://127.0.0.1:{gateway.http_port}"
    try:
        async with (
            httpx.AsyncClient(base_url=base, timeout=60.0, trust_env=False) as http,
            grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel,
        ):
            yield Door(http, channel)
    finally:
        await gateway.stop()
