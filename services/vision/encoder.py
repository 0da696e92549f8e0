"""Encodes images and videos: looks them up, decodes them on threads, runs the model once per file."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from services.common.errors import Cancelled, PerigeeError, Unavailable
from services.common.fairness.turns import FairSemaphore
from services.common.media.image_file import ImagePreprocess
from services.common.media.video_file import VideoLimits
from services.common.telemetry.timeline import Timeline
from services.common.telemetry.worker_metrics import WorkerMetrics
from services.families.media import ImageGrid, MediaArithmetic, VideoChunk, chunk_hash
from services.vision.backlog import Backlog, Terms
from services.vision.embedding_pool import PAGE_ROWS, EmbeddingPool, StoredEmbedding, pages_of
from services.vision.model_thread import ModelThread
from services.vision.own_time import OwnTime
from services.vision.preprocess import Patches, preprocess_image
from services.vision.video import preprocess_video, read_chunks


@dataclass(frozen=True)
class Encoded:
    """A result: the embedding, and whether it was in the pool already."""

    embedding: StoredEmbedding
    cached: bool


@dataclass
class _Flight:
    """An image or video being encoded, and the number of callers that wait for it."""

    task: asyncio.Task[tuple[StoredEmbedding, ...]]
    waiters: int = 0


@dataclass
class EncodeCounts:
    """Counts since the start. `hits`: answers that needed no model run of their own; `misses`: the others."""

    hits: int = 0
    misses: int = 0


@dataclass(eq=False)
class _Job:
    """A file on its way: on whose terms, the time spent on it, and its stages."""

    terms: Terms
    own_time: OwnTime
    timeline: Timeline


Run: TypeAlias = Callable[[_Job], Coroutine[Any, Any, tuple[StoredEmbedding, ...]]]
Decoded = TypeVar("Decoded")
Result = TypeVar("Result")
_ANY_TERMS = Terms()

STAGES = ("queue", "preprocess", "compute")
"""The stages of a file. queue: it waits for a thread or the model; preprocess: it is decoded and resized;
compute: the model encodes it, alone or with others.
"""


class ImageEncoder:
    """Encodes images and videos into the embedding pool. Event loop only.

    Tenants share the decoding threads and the model by weight, in patches. Callers with the same file share
    one run, which is the first one's. When the last of them leaves, the run is cancelled: at once while it is
    queued, between two layers while the model runs, between two frames while a video is decoded.
    """

    def __init__(
        self,
        pool: EmbeddingPool,
        model: ModelThread,
        arithmetic: MediaArithmetic,
        max_pixels: int,
        video_limits: VideoLimits,
        backlog: Backlog,
        threads: int,
        batch: int = 1,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """`batch`: as in ModelThread; `metrics`: with STAGES."""
        self._metrics = metrics or WorkerMetrics(STAGES)
        self._pool = pool
        self._model = model
        self._arithmetic = arithmetic
        self._max_pixels = max_pixels
        self._video_limits = video_limits
        self._backlog = backlog
        # The executor has as many threads: what is in this turn is being decoded, not queued.
        self._decode_turns = FairSemaphore(threads)
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="preprocess")
        self._turns = FairSemaphore(batch)
        self._in_model = 0
        self._flights: dict[bytes, _Flight] = {}
        self._tasks: set[asyncio.Task[tuple[StoredEmbedding, ...]]] = set()
        self._draining = False
        self.counts = EncodeCounts()

    @property
    def running(self) -> int:
        """Number of images or video chunks in the model."""
        return self._in_model

    @property
    def waiting(self) -> int:
        """Number of images and videos being decoded or queued for the model."""
        return max(0, len(self._tasks) - self.running)

    @property
    def draining(self) -> bool:
        """Whether new files are refused."""
        return self._draining

    def drain(self) -> int:
        """Refuses new files; returns how many are being encoded."""
        self._draining = True
        return len(self._tasks)

    def undrain(self) -> None:
        """Accepts files again."""
        self._draining = False

    async def encode(
        self,
        content_hash: bytes,
        image: bytes,
        preprocess: ImagePreprocess = "standard",
        terms: Terms = _ANY_TERMS,
    ) -> Encoded:
        """Returns the embedding of an image file, whose `image_hash` is `content_hash`.

        Callers with the same file share the first one's limit. Raises Overloaded if the queue or the pool is
        full or the queue is longer than the caller stays, InvalidRequest if the file is not a supported
        image, DeadlineExceeded if it takes longer than the limit, Unavailable while draining.
        """
        self._check_open()
        found = self._pool.find(content_hash)
        if found is not None:
            self.counts.hits += 1
            return Encoded(found, cached=True)
        embeddings = await self._shared(
            content_hash, lambda job: self._run(content_hash, image, preprocess, job), terms
        )
        return Encoded(embeddings[0], cached=False)

    async def encode_video(
        self, content_hash: bytes, video: bytes, terms: Terms = _ANY_TERMS
    ) -> list[Encoded]:
        """Returns the embeddings of a video file's chunks in time order. Raises as `encode` does."""
        self._check_open()
        embeddings = await self._shared(
            content_hash, lambda job: self._run_video(content_hash, video, job), terms
        )
        return [Encoded(embedding, cached=False) for embedding in embeddings]

    def close(self) -> None:
        """Stops the decoding threads without waiting for them."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _check_open(self) -> None:
        if self._draining:
            raise Unavailable("the vision worker is draining")

    async def _shared(self, content_hash: bytes, run: Run, terms: Terms) -> tuple[StoredEmbedding, ...]:
        """Awaits the file's run, starting one if there is none; the last caller that leaves cancels it."""
        flight = self._flights.get(content_hash)
        if flight is None:
            flight = self._start(content_hash, run, terms)
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

    def _start(self, content_hash: bytes, run: Run, terms: Terms) -> _Flight:
        try:
            self._backlog.check(terms)
        except PerigeeError as error:
            self._metrics.errors.inc(error.reason)
            raise
        job = _Job(terms, OwnTime(terms.limit_s), terms.timeline or Timeline())
        flight = _Flight(asyncio.create_task(run(job)))
        self._backlog.enter(job, terms, terms.patches)
        flight.task.add_done_callback(lambda _: self._backlog.leave(job))
        flight.task.add_done_callback(lambda task: self._measure(task, job))
        self._flights[content_hash] = flight
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        flight.task.add_done_callback(lambda _: self._forget(content_hash, flight))
        return flight

    def _measure(self, task: asyncio.Task[tuple[StoredEmbedding, ...]], job: _Job) -> None:
        """Adds a file that has ended to the metrics."""
        self._metrics.stages.observe(job.timeline)
        if not task.cancelled() and isinstance(error := task.exception(), PerigeeError):
            self._metrics.errors.inc(error.reason)

    def _forget(self, content_hash: bytes, flight: _Flight) -> None:
        """Removes a flight when it ends or its last caller leaves; the next caller starts a new one."""
        if self._flights.get(content_hash) is flight:
            del self._flights[content_hash]

    async def _run(
        self, content_hash: bytes, image: bytes, preprocess: ImagePreprocess, job: _Job
    ) -> tuple[StoredEmbedding, ...]:
        self.counts.misses += 1
        patches = await self._decoded(
            job, preprocess_image, image, self._max_pixels, self._arithmetic, preprocess
        )
        async with self._turn(job, len(patches.pixels)):
            return await self._compute(content_hash, patches, job)

    async def _decoded(self, job: _Job, decode: Callable[..., Decoded], *given: Any) -> Decoded:
        """Runs `decode` on a decoding thread, in its turn."""
        terms = job.terms
        turn = self._decode_turns.turn(terms.tenant, terms.weight, max(1, terms.patches))
        came = time.monotonic()
        async with turn, job.own_time.spend():
            job.timeline.add("queue", came, time.monotonic())
            with job.timeline.stage("preprocess"):
                return await asyncio.get_running_loop().run_in_executor(self._decoders, decode, *given)

    @contextlib.asynccontextmanager
    async def _turn(self, job: _Job, patches: int) -> AsyncIterator[None]:
        """A turn at the model, alone or with the others of its batch; the time until then is not counted."""
        turn = self._turns.turn(job.terms.tenant, job.terms.weight, patches)
        came = time.monotonic()
        async with turn, job.own_time.spend():
            job.timeline.add("queue", came, time.monotonic())
            self._in_model += 1
            try:
                with job.timeline.stage("compute"):
                    yield
            finally:
                self._in_model -= 1

    async def _compute(self, content_hash: bytes, patches: Patches, job: _Job) -> tuple[StoredEmbedding, ...]:
        """Reserves pages, runs the model, stores the embedding. Does not run the model if pages are short."""
        stored = self._pool.find(content_hash)
        if stored is not None:
            return (stored,)
        pages = self._pool.reserve(patches.grid.num_tokens)
        stop = threading.Event()
        try:
            await _ended_first(self._fill_pages(job, patches, pages, stop), stop)
        except BaseException:
            self._pool.discard(pages)
            raise
        return (self._store(content_hash, patches.grid, pages),)

    async def _fill_pages(
        self, job: _Job, patches: Patches, pages: Sequence[int], stop: threading.Event
    ) -> None:
        """Runs the model, whose turn the caller has. Must not be cancelled: the model writes to the pages."""
        clock = asyncio.get_running_loop().time
        began = clock()
        self._backlog.begin(job)
        try:
            share = await asyncio.wrap_future(self._model.encode(patches, pages, stop))
        finally:
            self._backlog.end(job)
        self._backlog.took(len(patches.pixels), (clock() - began) * share)

    async def _run_video(self, content_hash: bytes, video: bytes, job: _Job) -> tuple[StoredEmbedding, ...]:
        chunks = await self._decoded(job, read_chunks, video, self._video_limits, self._arithmetic)
        hashes = [chunk_hash(content_hash, index) for index in range(len(chunks))]
        found = [self._pool.find(name) for name in hashes]
        stored = tuple(embedding for embedding in found if embedding is not None)
        if len(stored) == len(chunks):
            self.counts.hits += 1
            return stored
        self.counts.misses += 1
        grid = chunks[0].grid
        self._backlog.enter(job, job.terms, grid.grid_t * grid.grid_h * grid.grid_w)
        stop = threading.Event()
        return await _ended_first(self._compute_video(hashes, video, chunks, job, stop), stop)

    async def _compute_video(
        self,
        hashes: Sequence[bytes],
        video: bytes,
        chunks: Sequence[VideoChunk],
        job: _Job,
        stop: threading.Event,
    ) -> tuple[StoredEmbedding, ...]:
        """Reserves pages for all chunks, encodes each in its own turn, and stores all at the end.

        So no chunk evicts another of the same video.
        """
        per_chunk = pages_of(chunks[0].grid.num_tokens)
        pages = self._pool.reserve(per_chunk * PAGE_ROWS * len(chunks))
        shares = [pages[start : start + per_chunk] for start in range(0, len(pages), per_chunk)]
        try:
            await self._fill(shares, video, chunks, job, stop)
        except BaseException:
            stop.set()  # a thread may be decoding
            self._pool.discard(pages)
            raise
        embeddings = []
        for name, chunk, share in zip(hashes, chunks, shares, strict=True):
            stored = self._pool.find(name)
            if stored is None:
                stored = self._store(name, chunk.grid, share)
            else:
                self._pool.discard(share)
            embeddings.append(stored)
        return tuple(embeddings)

    async def _fill(
        self,
        shares: Sequence[Sequence[int]],
        video: bytes,
        chunks: Sequence[VideoChunk],
        job: _Job,
        stop: threading.Event,
    ) -> None:
        """Encodes each chunk into its share of the pages."""

        def check() -> None:
            if stop.is_set():
                raise Cancelled("every caller waiting for the video has left")

        cut: Iterator[Patches] = preprocess_video(video, chunks, self._video_limits, check)
        for share in shares:
            job.own_time.restart()
            patches = await self._decoded(job, next, cut)
            async with self._turn(job, len(patches.pixels)):
                await _ended_first(self._fill_pages(job, patches, share, stop), stop)

    def _store(self, content_hash: bytes, grid: ImageGrid, pages: Sequence[int]) -> StoredEmbedding:
        thw = (grid.grid_t, grid.grid_h, grid.grid_w)
        return self._pool.store(content_hash, thw, grid.num_tokens, pages)


async def _ended_first(computing: Coroutine[Any, Any, Result], stop: threading.Event) -> Result:
    """Awaits `computing`. If cancelled, sets `stop` and returns only after the model stops writing pages."""
    task = asyncio.create_task(computing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(PerigeeError):
            await task
        raise
