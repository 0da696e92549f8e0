"""The vision worker's backend of WorkerService."""

from __future__ import annotations

import structlog

from perigee.v1 import worker_pb2
from services.common.errors import InternalError, UnsupportedOperation
from services.common.rpc.role import Role
from services.engine.kv_cache.cache_journal import CacheJournal
from services.vision.embedding_lessor import EmbeddingLessor
from services.vision.embedding_pool import EmbeddingPool
from services.vision.encoder import ImageEncoder

log = structlog.get_logger()


class VisionWorkerBackend:
    """A WorkerBackend: identity, load, and readers' messages about leases. Event loop only.

    Other threads may read `last_load` (the load at the last tick) and `integrity_failures`.
    """

    def __init__(
        self,
        info: worker_pb2.WorkerInfo,
        offer: worker_pb2.MemoryOffer,
        pool: EmbeddingPool,
        lessor: EmbeddingLessor,
        encoder: ImageEncoder,
    ) -> None:
        self._info = info
        self._offer = offer
        self._pool = pool
        self._lessor = lessor
        self._encoder = encoder
        self._checked_idle = False
        self.integrity_failures = 0
        self.last_load = self.load()

    def info(self) -> worker_pb2.WorkerInfo:
        return self._info

    def offer(self) -> worker_pb2.MemoryOffer:
        return self._offer

    def load(self) -> worker_pb2.LoadReport:
        """Returns the load; `waiting` includes images that are still being decoded."""
        return worker_pb2.LoadReport(
            running=self._encoder.running,
            waiting=self._encoder.waiting,
            pages=worker_pb2.PageCounts(**vars(self._pool.counts())),
            draining=self._encoder.draining,
        )

    def journal(self) -> CacheJournal:
        return self._pool.journal

    def leases_settled(self, reader: str, lease_keys: list[int]) -> None:
        self._lessor.settled(reader, lease_keys)

    def reader_joined(self, reader: str) -> None:
        self._lessor.reader_joined(reader)

    def reader_gone(self, reader: str) -> None:
        self._lessor.reader_gone(reader)

    async def flush(self) -> worker_pb2.FlushResponse:
        pages, embeddings = self._pool.flush()
        return worker_pb2.FlushResponse(pages=pages, embeddings=embeddings)

    async def drain(self) -> worker_pb2.DrainResponse:
        return worker_pb2.DrainResponse(outstanding=self._encoder.drain())

    async def undrain(self) -> None:
        self._encoder.undrain()

    async def check_transfer(self, address: str, role: Role, rounds: int) -> worker_pb2.CheckTransferResponse:
        raise UnsupportedOperation(
            f"{self._info.incarnation} is a vision worker, which never reads from peers. Swap the two: "
            f"let the worker at {address} read from this one"
        )

    def tick(self) -> None:
        """Ends expired holds and leases, refreshes `last_load`, checks the pool when it falls idle."""
        self._lessor.tick()
        self.last_load = self.load()
        idle = not self.last_load.running and not self.last_load.waiting
        if idle and not self._checked_idle:
            try:
                self._pool.check_integrity()
            except InternalError as error:
                self.integrity_failures += 1
                log.error("embedding pool integrity", detail=error.message)
        self._checked_idle = idle
