"""All workers this gateway knows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import grpc
import structlog

from perigee.v1 import worker_pb2
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import worker_role
from services.gateway.workers.cached import CachedNames, CacheIndex
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.session import DecodeSession
from services.gateway.workers.worker import DecodeWorker, Worker

log = structlog.get_logger()

VISION = worker_pb2.WORKER_ROLE_VISION
PREFILL = worker_pb2.WORKER_ROLE_PREFILL
DECODE = worker_pb2.WORKER_ROLE_DECODE

_TIDY_S = 0.2

AnyWorker = TypeVar("AnyWorker", bound=Worker)


class RolePool(Generic[AnyWorker]):
    """The workers of one role, by address. `name`: the role's; `configured`: the setting, "" for none.

    `make`: builds a worker from its address and its slot in `cache`, the index of what the workers hold.
    """

    def __init__(self, name: str, configured: str, make: Callable[[str, CachedNames], AnyWorker]) -> None:
        self.name = name
        self.configured = configured
        self.cache = CacheIndex()
        self._make = make
        self._workers: dict[str, AnyWorker] = {}
        self._in_order: tuple[AnyWorker, ...] = ()
        self._by_slot: dict[int, AnyWorker] = {}
        # When those that have been taken away served last.
        self._served_until = float("-inf")

    @property
    def workers(self) -> tuple[AnyWorker, ...]:
        """By address, those that discovery has lost included."""
        return self._in_order

    @property
    def serving(self) -> list[AnyWorker]:
        """The workers that take new requests."""
        return [worker for worker in self.workers if worker.serving]

    @property
    def missing(self) -> bool:
        """True if the role is configured and no worker serves it."""
        return bool(self.configured) and not any(worker.serving for worker in self.workers)

    @property
    def last_restart_s(self) -> float:
        """How long the last restart of a worker took, seconds: the longest one; 0.0 before any restart."""
        return max((worker.link.last_restart_s for worker in self.workers), default=0.0)

    @property
    def last_served_at(self) -> float:
        """When a worker last took new requests, seconds of the links' clock; -inf if none ever did."""
        return max((worker.link.last_served_at for worker in self.workers), default=self._served_until)

    def holders(self, names: Sequence[int]) -> dict[AnyWorker, int]:
        """Returns the serving workers that have the first entry cached, with the number of leading ones."""
        found: dict[AnyWorker, int] = {}
        for slot, count in self.cache.prefixes(names).items():
            worker = self._by_slot[slot]
            if worker.serving:
                found[worker] = count
        return found

    def update(self, addresses: Iterable[str]) -> None:
        """Takes the addresses from discovery: new workers are watched, lost ones get no new request."""
        found = set(addresses)
        for address in found - self._workers.keys():
            worker = self._workers[address] = self._make(address, self.cache.member())
            worker.start()
            log.info("worker found", role=self.name, address=address)
        for address, worker in self._workers.items():
            if worker.link.discovered and address not in found:
                log.info("worker not listed any more", role=self.name, address=address)
            worker.link.discovered = address in found
        self._sort()

    def take_left(self) -> list[AnyWorker]:
        """Removes, for the caller to close, those that discovery has lost and that have no request left."""
        left = [address for address, each in self._workers.items() if not each.link.discovered and each.idle]
        taken = [self._workers.pop(address) for address in left]
        for worker in taken:
            self._served_until = max(self._served_until, worker.link.last_served_at)
            worker.link.cached.close()
        self._sort()
        return taken

    def take_all(self) -> list[AnyWorker]:
        """Removes all of them, for the caller to close."""
        workers = list(self._workers.values())
        self._workers.clear()
        self._sort()
        return workers

    def _sort(self) -> None:
        self._in_order = tuple(self._workers[address] for address in sorted(self._workers))
        self._by_slot = {worker.link.cached.slot: worker for worker in self._in_order}


class WorkerPool:
    """One pool per role. `update` adds and retires workers; `run` closes those that have left."""

    def __init__(self, vision: str, prefill: str, decode: str, endpoints: Endpoints) -> None:
        """The settings of the roles; what they stand for comes by `update`."""
        # One counter for all sessions: a request's tokens may come from several, one after another.
        handles = itertools.count(1)

        def link(role: worker_pb2.WorkerRole.ValueType, address: str, cached: CachedNames) -> WorkerLink:
            def opened() -> grpc.aio.Channel:
                return endpoints.channel(address, worker_role(role))

            return WorkerLink(
                role,
                address,
                opened(),
                cached,
                successor=lambda channel: opened() if endpoints.outdated(channel) else None,
            )

        def decoder(address: str, cached: CachedNames) -> DecodeWorker:
            made = link(DECODE, address, cached)
            return DecodeWorker(made, DecodeSession(made, handles))

        self.vision = RolePool("vision", vision, lambda *at: Worker(link(VISION, *at)))
        self.prefill = RolePool("prefill", prefill, lambda *at: Worker(link(PREFILL, *at)))
        self.decode = RolePool("decode", decode, decoder)
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def configured(self) -> bool:
        """True if the gateway has decode workers configured; without one it cannot generate."""
        return bool(self.decode.configured)

    @property
    def links(self) -> tuple[WorkerLink, ...]:
        """Every worker's link, by role (vision, prefill, decode), then address."""
        pools: tuple[RolePool[Worker] | RolePool[DecodeWorker], ...] = (
            self.vision,
            self.prefill,
            self.decode,
        )
        return tuple(worker.link for pool in pools for worker in pool.workers)

    def serving_addresses(self) -> set[str]:
        """Addresses of all workers that take new requests."""
        serving = (*self.vision.serving, *self.prefill.serving, *self.decode.serving)
        return {worker.link.address for worker in serving}

    def find(self, address: str) -> WorkerLink | None:
        """The worker at exactly this address."""
        return next((link for link in self.links if link.address == address), None)

    def update(self, role: worker_pb2.WorkerRole.ValueType, addresses: Sequence[str]) -> None:
        """Takes the addresses of a role from discovery."""
        if role == DECODE:
            self.decode.update(addresses)
        else:
            (self.prefill if role == PREFILL else self.vision).update(addresses)

    def missing_roles(self) -> tuple[str, ...]:
        """Configured roles of which no worker is serving now."""
        pools = (self.vision, self.prefill, self.decode)
        return tuple(pool.name for pool in pools if pool.missing)

    def context_length(self) -> int | None:
        """The shortest context among reachable decode workers, tokens; None while none is reachable."""
        lengths = [
            info.model.context_length
            for worker in self.decode.workers
            if (info := worker.link.info) is not None and info.model.context_length
        ]
        return min(lengths, default=None)

    async def run(self) -> None:
        """Closes workers that have left and have no request left; runs until cancelled."""
        while True:
            await asyncio.sleep(_TIDY_S)
            self._close_left()

    async def stop(self) -> None:
        """Ends all watching and sessions (which cancels what runs on them) and closes the channels."""
        workers = (*self.vision.take_all(), *self.prefill.take_all(), *self.decode.take_all())
        await asyncio.gather(*self._closing, *(worker.close() for worker in workers))

    def _close_left(self) -> None:
        left = (*self.vision.take_left(), *self.prefill.take_left(), *self.decode.take_left())
        for worker in left:
            task = asyncio.create_task(worker.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
