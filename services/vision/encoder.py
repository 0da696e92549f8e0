"""Encode: find, decode off the event loop, run each image once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from services.common.errors import Overloaded, PerigeeError, Unavailable
from services.vision.embedding_pool import Embedding, EmbeddingPool
from services.vision.model_thread import ModelThread
from services.vision.preprocess import Patches, preprocess_image


@dataclass(frozen=True)
class Encoded:
    """An answer: the embedding, and whether it was there before anybody asked."""

    embedding: Embedding
    cached: bool


@dataclass
class _Flight:
    """An image on its way, and how many callers wait for it."""

    task: asyncio.Task[Embedding]
    waiters: int = 0


@dataclass
class EncodeCounts:
    """Since the start. `hits`: answers that needed no run of the model of their own; `misses`: the others."""

    hits: int = 0
    misses: int = 0


class ImageEncoder:
    """Brings images into the embedding pool. Event loop only.

    Callers with the same image share one run. An image nobody waits for any more is dropped: at once before
    its turn, between two blocks of the model during it.
    """

    def __init__(
        self, pool: EmbeddingPool, model: ModelThread, max_pixels: int, max_waiting: int, threads: int
    ) -> None:
        self._pool = pool
        self._model = model
        self._max_pixels = max_pixels
        self._max_waiting = max_waiting
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="preprocess")
        self._turn = asyncio.Lock()
        self._flights: dict[bytes, _Flight] = {}
        self._tasks: set[asyncio.Task[Embedding]] = set()
        self._draining = False
        self.counts = EncodeCounts()

    @property
    def running(self) -> int:
        """Images the model works on: 0 or 1."""
        return int(self._turn.locked())

    @property
    def waiting(self) -> int:
        """Images being decoded or waiting for their turn."""
        return max(0, len(self._tasks) - self.running)

    @property
    def draining(self) -> bool:
        """Whether new images are refused."""
        return self._draining

    def drain(self) -> int:
        """Takes in no more images; returns how many are on their way."""
        self._draining = True
        return len(self._tasks)

    async def encode(self, content_hash: bytes, image: bytes) -> Encoded:
        """The embedding of an image file whose SHA-256 is `content_hash`.

        Overloaded when the queue or the pool is full, InvalidRequest when the file is no image the model
        takes, Unavailable while draining.
        """
        if self._draining:
            raise Unavailable("the vision worker is draining")
        found = self._pool.find(content_hash)
        flight = self._flights.get(content_hash)
        if found is not None or flight is not None:
            self.counts.hits += 1
        if found is not None:
            return Encoded(found, cached=True)
        if flight is None:
            flight = self._start(content_hash, image)
        flight.waiters += 1
        try:
            return Encoded(await asyncio.shield(flight.task), cached=False)
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                self._forget(content_hash, flight)
                flight.task.cancel()

    def close(self) -> None:
        """Ends the decoding threads."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _start(self, content_hash: bytes, image: bytes) -> _Flight:
        if len(self._tasks) >= self._max_waiting:
            raise Overloaded(f"{len(self._tasks)} images are being encoded or waiting already")
        self.counts.misses += 1
        flight = _Flight(asyncio.create_task(self._run(content_hash, image)))
        self._flights[content_hash] = flight
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        flight.task.add_done_callback(lambda _: self._forget(content_hash, flight))
        return flight

    def _forget(self, content_hash: bytes, flight: _Flight) -> None:
        """Takes a flight off the list, at its end or once nobody waits; the next caller starts anew."""
        if self._flights.get(content_hash) is flight:
            del self._flights[content_hash]

    async def _run(self, content_hash: bytes, image: bytes) -> Embedding:
        running = asyncio.get_running_loop()
        patches = await running.run_in_executor(self._decoders, preprocess_image, image, self._max_pixels)
        async with self._turn:
            stop = threading.Event()
            computing = asyncio.create_task(self._compute(content_hash, patches, stop))
            try:
                return await asyncio.shield(computing)
            except asyncio.CancelledError:
                # The model may be writing into the pages: they, and the turn, are free when it has ended.
                stop.set()
                with contextlib.suppress(PerigeeError):
                    await computing
                raise

    async def _compute(self, content_hash: bytes, patches: Patches, stop: threading.Event) -> Embedding:
        """Reserves pages, runs the model, stores. Without room the model is not run."""
        stored = self._pool.find(content_hash)
        if stored is not None:
            return stored
        grid = patches.grid
        pages = self._pool.reserve(grid.num_tokens)
        try:
            await asyncio.wrap_future(self._model.encode(patches, pages, stop))
        except BaseException:
            self._pool.discard(pages)
            raise
        thw = (grid.grid_t, grid.grid_h, grid.grid_w)
        return self._pool.store(content_hash, thw, grid.num_tokens, pages)
