"""Changes log levels while services run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc

from perigee.v1 import admin_pb2, worker_pb2
from services.common.errors import NotFound
from services.common.logs import level_name, set_log_level
from services.common.rpc.status import from_rpc_error
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import WorkerPool

GATEWAY = "gateway"
_TIMEOUT_S = 10.0


class LogLevels:
    """Sets the level of this gateway, all its processes included, and of its workers. Event loop only."""

    def __init__(self, pool: WorkerPool, shared: Path | None, on_change: Callable[[], None]) -> None:
        """`shared`: a file by which the gateway's processes agree, None if there is one process; `on_change`
        is called when this process has another level.
        """
        self._pool = pool
        self._shared = shared
        self._on_change = on_change
        self._read_at = 0

    async def set(self, level: str, address: str) -> list[admin_pb2.ChangedLogLevel]:
        """Sets the level of the service at `address`, of the gateway (GATEWAY), or of all if it is empty;
        returns what each answered. Raises InvalidRequest for an unknown level, NotFound for an unknown
        service.
        """
        name = level_name(level)
        links: Sequence[WorkerLink] = self._pool.links
        if address not in ("", GATEWAY):
            link = self._pool.find(address)
            if link is None:
                known = ", ".join((GATEWAY, *(each.address for each in links)))
                raise NotFound(f"no service {address!r} is known; known: {known}", "address")
            return [await _set(link, name)]
        self._set_own(name)
        own = admin_pb2.ChangedLogLevel(address=GATEWAY)
        return [own] if address else [own, *await asyncio.gather(*(_set(link, name) for link in links))]

    def follow(self) -> None:
        """Takes the level that another process of this gateway was told. Call it now and then."""
        if self._shared is None:
            return
        with contextlib.suppress(FileNotFoundError):
            changed_at = self._shared.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._read_at = changed_at
                set_log_level(self._shared.read_text())
                self._on_change()

    def _set_own(self, name: str) -> None:
        if self._shared is not None:
            # Replaced as a whole: another process may read it at any moment.
            new = self._shared.with_suffix(".new")
            new.write_text(name)
            new.replace(self._shared)
        set_log_level(name)
        self._on_change()


async def _set(link: WorkerLink, name: str) -> admin_pb2.ChangedLogLevel:
    changed = admin_pb2.ChangedLogLevel(address=link.address)
    try:
        await link.stub.SetLogLevel(worker_pb2.SetLogLevelRequest(level=name), timeout=_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        changed.error = from_rpc_error(error).message
    return changed
