"""A decode worker in the test's process that lends its cached pages: a real engine, a fake model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch

from perigee.v1 import pages_pb2_grpc
from services.decode.page_server import PageServicer
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.serving.loop import EngineLoop
from services.engine.serving.text_backend import TextWorkerBackend
from tests.support.decode_bench import Bench
from tests.support.fake_runner import HIDDEN
from tests.support.owner import Owner, RecordingBackend, transfer_thread
from tests.support.waiting import until


class PageLender:
    """Its cache holds the pages of the prompts it was given."""

    def __init__(
        self, name: str, fabric: MemoryFabric, *, num_pages: int = 16, lease_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.name = name
        self.bench = Bench(num_pages, lease_s=lease_s, clock=clock, local_prefill_tokens=100_000)
        self.engine = self.bench.engine
        self.thread = transfer_thread(name, fabric, self.bench.kv_pages, torch.zeros(2, 64, HIDDEN), clock)
        self.failures: list[BaseException] = []
        self.loop = EngineLoop(name, self.engine.step, self.failures.append, idle_wait_s=0.01)
        recorded = RecordingBackend(name, self.thread, self.bench.kv_pages)
        parts = SimpleNamespace(info=recorded.info(), offer=recorded.offer())
        self.owner = Owner(TextWorkerBackend(cast(Any, parts), self.engine, self.engine.lending, self.loop))
        self.servicer = PageServicer(self.engine.lending, self.loop, self.owner.servicer.readers.authenticate)
        self.loop.start()

    @property
    def address(self) -> str:
        return self.owner.address

    async def start(self) -> None:
        """Listens."""
        await self.owner.start(
            lambda server: pages_pb2_grpc.add_PageServiceServicer_to_server(self.servicer, server)
        )

    async def remember(self, tokens: Sequence[int]) -> None:
        """Computes a prompt, after which its whole pages are cached."""
        heard = await self._on_engine(lambda: self.bench.submit([*tokens, 1], 0))
        await until(heard.finish)

    async def flush(self) -> int:
        """Drops cached pages that nobody holds."""
        return await self._on_engine(self.engine.flush)

    def is_free(self) -> bool:
        """Whether nobody holds a page."""
        pages = self.engine.load.pages
        return not pages.used + pages.leased + pages.quarantined

    async def check_integrity(self) -> None:
        """Raises InternalError, which lists what is wrong with the pool."""
        await self._on_engine(self.engine._pages.check_integrity)

    async def stop(self) -> None:
        """Ends everything; asserts that the engine did not fail."""
        await self.owner.stop()
        self.loop.stop()
        self.thread.close()
        assert self.failures == []

    async def _on_engine(self, function) -> Any:
        return await asyncio.wrap_future(self.loop.call(function))
