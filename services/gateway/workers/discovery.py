"""Finds workers by DNS or in files: a pool is a name or a file, which lists every replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import structlog

from perigee.v1 import worker_pb2
from services.common.rpc.name_resolver import Resolve, look_up
from services.common.rpc.pool_address import PoolAddress, PoolEntry, PoolFile

log = structlog.get_logger()

Role: TypeAlias = "worker_pb2.WorkerRole.ValueType"

_FIRST_LOOK_S = 2.0
# Reading a file costs nothing, and what is listed there has come to take over.
_MOST_BETWEEN_READS_S = 0.2


class Discovery:
    """Resolves the pools' names periodically; calls `found` with the addresses of a role's workers.

    Each name has a loop of its own, so one that is slow to resolve delays no other; `resolve` must serve as
    many calls at once as there are names. A name that cannot be resolved keeps the addresses it had: a name
    server's failure is no reason to drop workers that answer. Files are read as names are resolved, at least
    every 0.2 s. gRPC's own resolver resolves again only after a failure, and cannot address one replica.
    """

    def __init__(
        self,
        pools: Mapping[Role, Sequence[PoolEntry]],
        found: Callable[[Role, Sequence[str]], None],
        interval_s: float,
        resolve: Resolve,
    ) -> None:
        self._pools = pools
        self._found = found
        self._interval_s = interval_s
        self._resolve = resolve
        self._known: dict[PoolEntry, Sequence[PoolAddress]] = {
            entry: [entry]
            for pool in pools.values()
            for entry in pool
            if isinstance(entry, PoolAddress) and entry.is_ip
        }
        self._names = {(role, entry) for role, pool in pools.items() for entry in pool if not entry.is_ip}
        self._unseen = set(self._names)
        self._all_seen = asyncio.Event()

    async def first_look(self) -> None:
        """Waits until `run` has resolved every name once, for at most two seconds; the rest follows."""
        try:
            async with asyncio.timeout(_FIRST_LOOK_S):
                await self._all_seen.wait()
        except TimeoutError:
            slow = sorted({entry.name for _, entry in self._unseen})
            log.warning("the pools' names are slow to resolve", names=",".join(slow))

    async def run(self) -> None:
        """Runs until cancelled."""
        for role in self._pools:
            self._publish(role)
        self._note_seen()
        async with asyncio.TaskGroup() as group:
            for role, entry in self._names:
                group.create_task(self._follow(role, entry))

    async def _follow(self, role: Role, entry: PoolEntry) -> None:
        interval_s = self._interval_s
        if isinstance(entry, PoolFile):
            interval_s = min(interval_s, _MOST_BETWEEN_READS_S)
        failing = False
        while True:
            try:
                self._known[entry] = _of_one_family(await look_up(entry, self._resolve))
                failing = False
            except (OSError, ValueError) as error:
                if not failing:
                    failing = True
                    log.warning("name not resolved", name=entry.name, detail=str(error))
            self._publish(role)
            self._unseen.discard((role, entry))
            self._note_seen()
            await asyncio.sleep(interval_s)

    def _publish(self, role: Role) -> None:
        workers = (worker for entry in self._pools[role] for worker in self._known.get(entry, ()))
        self._found(role, list(dict.fromkeys(map(str, workers))))

    def _note_seen(self) -> None:
        if not self._unseen:
            self._all_seen.set()


def _of_one_family(found: Sequence[PoolAddress]) -> Sequence[PoolAddress]:
    """The IPv4 addresses where there are any: a worker that answers at one of each kind would count twice."""
    in_order = sorted(found, key=str)
    return [address for address in in_order if ":" not in address.host] or in_order
