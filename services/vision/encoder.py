"""Encode, as the event loop sees it: look up, decode off the loop, run each image once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from services.common.errors import Overloaded, Unavailable
from services.engine.loop import EngineLoop
from services.vision.embedding_pool import Embedding
from services.vision.engine import EncodeJob, VisionEngine
from services.vision.preprocess import preprocess_image


@dataclass(frozen=True)
class Encoded:
    """An answer: the embedding, and whether it was there before anybody asked."""

    embedding: Embedding
    cached: bool


@dataclass
class _Flight:
    """An image on its way, and how many callers wait for it."""

    task: asyncio.Task[Encoded]
    waiters: int = 0


@dataclass
class EncodeCounts:
    """Since the start. `hits`: answers that needed no run of the model of their own; `misses`: the others."""

    hits: int = 0
    misses: int = 0


class ImageEncoder:
    """Brings images into the embedding pool. Event loop only.

    Callers with the same image share one run; an image nobody waits for any more is dropped unless it is
    being encoded already. A look-up counts as being on its way: the engine answers it between two images.
    """

    def __init__(
        self, engine: VisionEngine, loop: EngineLoop, max_pixels: int, max_waiting: int, threads: int
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._max_pixels = max_pixels
        self._max_waiting = max_waiting
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="preprocess")
        self._flights: dict[bytes, _Flight] = {}
        self._draining = False
        self.counts = EncodeCounts()

    @property
    def outstanding(self) -> int:
        """Images on their way."""
        return len(self._flights)

    async def encode(self, content_hash: bytes, image: bytes) -> Encoded:
        """The embedding of an image file whose SHA-256 is `content_hash`.

        Overloaded when the queue or the pool is full, InvalidRequest when the file is no image the model
        takes, Unavailable while draining.
        """
        if self._draining:
            raise Unavailable("the vision worker is draining")
        flight = self._flights.get(content_hash)
        if flight is None:
            flight = self._start(content_hash, image)
        else:
            self.counts.hits += 1
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                self._forget(content_hash, flight)
                flight.task.cancel()

    @property
    def draining(self) -> bool:
        """Whether new images are refused."""
        return self._draining

    def drain(self) -> int:
        """Takes in no more images; returns how many are on their way."""
        self._draining = True
        return len(self._flights)

    def close(self) -> None:
        """Ends the decoding threads; nothing is on its way any more."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _start(self, content_hash: bytes, image: bytes) -> _Flight:
        if len(self._flights) >= self._max_waiting:
            raise Overloaded(f"{len(self._flights)} images are being encoded or waiting already")
        flight = _Flight(asyncio.create_task(self._run(content_hash, image)))
        self._flights[content_hash] = flight
        flight.task.add_done_callback(lambda _: self._forget(content_hash, flight))
        return flight

    def _forget(self, content_hash: bytes, flight: _Flight) -> None:
        """Takes a flight off the list, at its end or once nobody waits; the next caller starts anew."""
        if self._flights.get(content_hash) is flight:
            del self._flights[content_hash]

    async def _run(self, content_hash: bytes, image: bytes) -> Encoded:
        found = await asyncio.wrap_future(self._loop.call(lambda: self._engine.find(content_hash)))
        if found is not None:
            self.counts.hits += 1
            return Encoded(found, cached=True)
        self.counts.misses += 1
        running = asyncio.get_running_loop()
        patches = await running.run_in_executor(self._decoders, preprocess_image, image, self._max_pixels)
        job = EncodeJob(content_hash, patches)
        self._loop.post(lambda: self._engine.submit(job))
        return Encoded(await asyncio.wrap_future(job.done), cached=False)
