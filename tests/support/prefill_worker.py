"""A whole prefill worker in the test's process: real server, engine thread and leases, a fake model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import torch

from perigee.v1 import prefill_pb2_grpc
from services.common.errors import MediaLost
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.media import Medium
from services.engine.serving.loop import EngineLoop
from services.engine.serving.text_backend import TextWorkerBackend
from services.prefill.engine import PrefillEngine
from services.prefill.job import Job
from services.prefill.limits import PrefillLimits
from services.prefill.server import PrefillServicer
from services.prefill.source import SourceResult
from services.prefill.source_reader import SourceReader
from tests.support.fake_runner import HIDDEN, NUM_LAYERS, VOCAB, FakeRunner, fake_pages
from tests.support.owner import Owner, RecordingBackend, peer_directory, transfer_thread


class StrawEmbeddings:
    """Returns rows of threes, or raises an error."""

    def __init__(self) -> None:
        self.error: MediaLost | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch_all(self, media: tuple[Medium, ...], indices: tuple[int, ...]) -> dict[int, torch.Tensor]:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {index: torch.full((media[index].num_tokens, HIDDEN), 3.0) for index in indices}


class PrefillWorker:
    """`held` stops the engine thread before its next step, as a long forward pass does."""

    def __init__(
        self, name: str, fabric: MemoryFabric, *, num_pages: int = 16, lease_s: float = 10.0,
        context_length: int = 2048, patience_s: float = 3.0, checksum_fraction: float = 1.0,
        max_waiting: int = 4, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.kv_pages = fake_pages(num_pages)
        self.thread = transfer_thread(name, fabric, self.kv_pages, torch.zeros(2, 64, HIDDEN), clock)
        self.runner = FakeRunner(self.kv_pages)
        limits = PrefillLimits(
            chunk_tokens=64, max_waiting=max_waiting, lease_s=lease_s, checksum_fraction=checksum_fraction
        )
        self.peers = peer_directory(name, self.thread, self.kv_pages)
        self.source = SourceReader(
            self.peers,
            self.thread,
            NUM_LAYERS,
            self._on_source_end,
            self._on_settled,
            patience_s,
            clock,
        )
        self.engine = PrefillEngine(
            self.runner, self.kv_pages, limits, self.thread.set_serving, self.source, clock=clock
        )
        self.failures: list[BaseException] = []
        self.loop = EngineLoop(name, self.engine.step, self.failures.append, idle_wait_s=0.01)
        recorded = RecordingBackend(name, self.thread, self.kv_pages)
        parts = SimpleNamespace(info=recorded.info(), offer=recorded.offer())
        self.embeddings = StrawEmbeddings()
        self.owner = Owner(TextWorkerBackend(cast(Any, parts), self.engine, self.engine, self.loop))
        self.servicer = PrefillServicer(
            self.engine,
            self.loop,
            cast(Any, self.embeddings),
            self.owner.servicer.readers.authenticate,
            VOCAB,
            context_length,
        )
        self.loop.start()

    def _on_source_end(self, job: Job, result: SourceResult) -> None:
        self.loop.post(lambda: self.engine.source_ended(job, result))

    def _on_settled(self, pages: tuple[int, ...]) -> None:
        self.loop.post(lambda: self.engine.pages_settled(pages))

    @property
    def address(self) -> str:
        return self.owner.address

    async def start(self, port: int = 0) -> None:
        """Listens."""
        await self.owner.start(
            lambda server: prefill_pb2_grpc.add_PrefillServiceServicer_to_server(self.servicer, server),
            port=port,
        )

    def is_free(self) -> bool:
        """Whether nobody holds a page."""
        load = self.engine.load
        held = load.pages.used + load.pages.leased + load.pages.quarantined
        return not (held or load.running or load.waiting)

    async def check_integrity(self) -> None:
        """Raises InternalError, which lists what is wrong with the pool."""
        await asyncio.wrap_future(self.loop.call(self.engine._pages.pool.check_integrity))

    async def stop(self) -> None:
        """Ends everything; asserts that the engine did not fail."""
        await self.owner.stop()
        await self.peers.close()
        self.loop.stop()
        self.thread.close()
        assert self.failures == []
