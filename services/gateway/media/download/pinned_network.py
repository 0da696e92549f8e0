"""Connections to public addresses only, made to the very address that was checked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpcore

from services.common.errors import UnsupportedValue
from services.common.rpc.name_resolver import Resolve
from services.gateway.media.download.public_address import is_public


class PinnedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name once, refuses it unless every address is public, and connects by address.

    So a name that resolves otherwise a moment later gains nothing. `inner` is asked for literals only.
    """

    def __init__(self, resolve: Resolve, inner: httpcore.AsyncNetworkBackend) -> None:
        self._resolve = resolve
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises UnsupportedValue for a host with an address that is not public."""
        try:
            addresses = await self._resolve(host, port)
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        if not addresses or not all(map(is_public, addresses)):
            raise UnsupportedValue(f"{host} has an address that is not public")
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise httpcore.ConnectError(f"{host} cannot be reached") from failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no URL means a unix socket")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
