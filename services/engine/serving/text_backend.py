"""The backend of WorkerService in prefill and decode workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from perigee.v1 import worker_pb2
from services.common.rpc.role import Role
from services.engine.kv_cache.cache_journal import CacheJournal
from services.engine.kv_cache.page_pool import PageCounts
from services.engine.kv_transfer.agents.offer_proto import report_to_proto
from services.engine.serving.loop import EngineLoop
from services.engine.serving.text_worker import TextWorker


class TextLoad(Protocol):
    """The load of an engine after its last step."""

    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def pages(self) -> PageCounts: ...
    @property
    def queued_tokens(self) -> int: ...
    @property
    def integrity_failures(self) -> int: ...


class TextEngine(Protocol):
    """The interface that prefill and decode engines share. Engine thread only, except `load` and
    `journal`.
    """

    @property
    def load(self) -> TextLoad: ...
    @property
    def journal(self) -> CacheJournal: ...

    def flush(self) -> int:
        """Drops cached pages nobody holds; returns how many."""

    def drain(self) -> int:
        """Stops admitting requests; returns how many remain."""

    def undrain(self) -> None:
        """Admits requests again."""


class Readers(Protocol):
    """Gets the events of readers, because it lends them pages. Engine thread only."""

    def settled(self, reader: str, lease_keys: Sequence[int]) -> None:
        """The reader will not read the pages of these leases any more."""

    def reader_joined(self, reader: str) -> None:
        """A handshake of this reader is open."""

    def reader_gone(self, reader: str) -> None:
        """All leases of this reader are over."""


class TextWorkerBackend:
    """A WorkerBackend over an engine and its loop."""

    def __init__(self, worker: TextWorker, engine: TextEngine, readers: Readers, loop: EngineLoop) -> None:
        self.worker = worker
        self.engine = engine
        self.loop = loop
        self._readers = readers
        self._draining = False

    def info(self) -> worker_pb2.WorkerInfo:
        return self.worker.info

    def offer(self) -> worker_pb2.MemoryOffer:
        return self.worker.offer

    def load(self) -> worker_pb2.LoadReport:
        """The load now. Any thread may call this."""
        load = self.engine.load
        return worker_pb2.LoadReport(
            running=load.running,
            waiting=load.waiting,
            pages=worker_pb2.PageCounts(**vars(load.pages)),
            draining=self._draining,
            queued_tokens=load.queued_tokens,
        )

    def journal(self) -> CacheJournal:
        return self.engine.journal

    def leases_settled(self, reader: str, lease_keys: list[int]) -> None:
        self.loop.post(lambda: self._readers.settled(reader, lease_keys))

    def reader_joined(self, reader: str) -> None:
        self.loop.post(lambda: self._readers.reader_joined(reader))

    def reader_gone(self, reader: str) -> None:
        self.loop.post(lambda: self._readers.reader_gone(reader))

    async def flush(self) -> worker_pb2.FlushResponse:
        pages = await asyncio.wrap_future(self.loop.call(self.engine.flush))
        return worker_pb2.FlushResponse(pages=pages)

    async def drain(self) -> worker_pb2.DrainResponse:
        self._draining = True
        outstanding = await asyncio.wrap_future(self.loop.call(self.engine.drain))
        return worker_pb2.DrainResponse(outstanding=outstanding)

    async def undrain(self) -> None:
        self._draining = False
        await asyncio.wrap_future(self.loop.call(self.engine.undrain))

    async def check_transfer(self, address: str, role: Role, rounds: int) -> worker_pb2.CheckTransferResponse:
        peer, report = await self.worker.peers.check(address, role, rounds)
        return worker_pb2.CheckTransferResponse(
            incarnation=peer.offer.incarnation,
            transport=report_to_proto(report.transport),
            bytes=report.bytes,
            crc32=report.crc32,
            seconds=report.seconds,
        )
