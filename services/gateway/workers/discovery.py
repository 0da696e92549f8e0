"""Finds workers by DNS: a pool is a name, and the name lists every replica."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import structlog

from perigee.v1 import worker_pb2
from services.gateway.workers.address import PoolAddress

log = structlog.get_logger()

Role: TypeAlias = "worker_pb2.WorkerRole.ValueType"
Resolve = Callable[[PoolAddress], Awaitable[Sequence[str]]]

_FIRST_LOOK_S = 2.0


async def resolve_dns(entry: PoolAddress) -> Sequence[str]:
    """IP addresses of a name: the IPv4 ones where there are any, for a worker that answers at one of each
    kind would count twice. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(entry.host, entry.port, type=socket.SOCK_STREAM)
    by_family: dict[int, list[str]] = {}
    for family, _, _, _, where in found:
        by_family.setdefault(family, []).append(str(where[0]))
    return by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6) or []


class Discovery:
    """Looks every pool up again and again and tells `found` the workers' addresses, by role.

    A name that cannot be resolved keeps the addresses it had: a name server's failure is no reason to drop
    workers that answer. gRPC's own resolver looks again only after a failure, and cannot aim at a replica.
    """

    def __init__(
        self,
        pools: Mapping[Role, Sequence[PoolAddress]],
        found: Callable[[Role, Sequence[str]], None],
        interval_s: float,
        resolve: Resolve = resolve_dns,
    ) -> None:
        self._pools = pools
        self._found = found
        self._interval_s = interval_s
        self._resolve = resolve
        self._known: dict[PoolAddress, Sequence[str]] = {}
        self._failing: set[PoolAddress] = set()

    async def first_look(self) -> None:
        """Looks once, for no longer than a moment; what is not resolved by then follows."""
        try:
            async with asyncio.timeout(_FIRST_LOOK_S):
                await self.look()
        except TimeoutError:
            log.warning("the pools' names are slow to resolve")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        """Resolves every entry at once and tells what was found: no pool waits for another one's name."""
        await asyncio.gather(*(self._look_for(role, pool) for role, pool in self._pools.items()))

    async def _look_for(self, role: Role, pool: Sequence[PoolAddress]) -> None:
        def tell() -> None:
            ips = ((entry, ip) for entry in pool for ip in self._known.get(entry, ()))
            self._found(role, list(dict.fromkeys(entry.at(ip) for entry, ip in ips)))

        for looking in asyncio.as_completed([self._look_up(entry) for entry in pool]):
            await looking
            tell()

    async def _look_up(self, entry: PoolAddress) -> None:
        if entry.is_ip:
            self._known[entry] = [entry.host]
            return
        try:
            self._known[entry] = sorted(await self._resolve(entry))
            self._failing.discard(entry)
        except (OSError, UnicodeError) as error:
            if entry not in self._failing:
                self._failing.add(entry)
                log.warning("name not resolved", name=entry.host, detail=str(error))
