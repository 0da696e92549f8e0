"""The vision worker behind WorkerService."""

from __future__ import annotations

import asyncio

from perigee.v1 import worker_pb2

from services.engine.loop import EngineLoop
from services.vision.encoder import ImageEncoder
from services.vision.engine import VisionEngine


class VisionHost:
    """A WorkerHost: identity, load, and the words of readers about their leases."""

    def __init__(
        self,
        info: worker_pb2.WorkerInfo,
        offer: worker_pb2.MemoryOffer,
        engine: VisionEngine,
        loop: EngineLoop,
        encoder: ImageEncoder,
    ) -> None:
        self._info = info
        self._offer = offer
        self._engine = engine
        self._loop = loop
        self._encoder = encoder

    def info(self) -> worker_pb2.WorkerInfo:
        return self._info

    def offer(self) -> worker_pb2.MemoryOffer:
        return self._offer

    def load(self) -> worker_pb2.LoadReport:
        """`waiting` counts images from their arrival on, also those still being decoded."""
        load = self._engine.load
        return worker_pb2.LoadReport(
            running=load.running,
            waiting=max(0, self._encoder.outstanding - load.running),
            pages=worker_pb2.PageCounts(**vars(load.pages)),
            draining=self._encoder.draining,
        )

    def leases_settled(self, reader: str, lease_keys: list[int]) -> None:
        self._loop.post(lambda: self._engine.settled(reader, lease_keys))

    def reader_joined(self, reader: str) -> None:
        self._loop.post(lambda: self._engine.reader_joined(reader))

    def reader_gone(self, reader: str) -> None:
        self._loop.post(lambda: self._engine.reader_gone(reader))

    async def flush(self) -> worker_pb2.FlushResponse:
        pages, embeddings = await asyncio.wrap_future(self._loop.call(self._engine.flush))
        return worker_pb2.FlushResponse(pages=pages, embeddings=embeddings)

    async def drain(self) -> worker_pb2.DrainResponse:
        return worker_pb2.DrainResponse(outstanding=self._encoder.drain())
