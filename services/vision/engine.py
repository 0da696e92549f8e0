"""What the engine thread of a vision worker does: one image at a time, and everything about the pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog
import torch

from services.common.errors import InternalError, NotFound, PerigeeError
from services.engine.kv_cache.lease_table import Lease
from services.engine.kv_cache.page_pool import PageCounts
from services.engine.model.vision.model import VisionModel
from services.vision.embedding_pool import Embedding, EmbeddingPool
from services.vision.preprocess import Patches

log = structlog.get_logger()


@dataclass(frozen=True)
class EncodeJob:
    """An image to encode; `done` gets its embedding or a PerigeeError. Cancelled: skipped."""

    content_hash: bytes
    patches: Patches
    done: Future[Embedding] = field(default_factory=Future)


@dataclass(frozen=True)
class VisionLoad:
    """What the engine looked like after its last step or message."""

    running: int
    waiting: int
    pages: PageCounts
    embeddings: int
    integrity_failures: int


class VisionEngine:
    """Owns the model and the embedding pool. Engine thread only, but for `load`.

    Leases go by (reader incarnation, the reader's key): that is how readers name them when they settle.
    """

    def __init__(self, model: VisionModel, pool: EmbeddingPool, on_serving: Callable[[bool], None]) -> None:
        """`on_serving` hears when the first page is lent to a reader, and when the last has come back."""
        self._model = model
        self._pool = pool
        self._on_serving = on_serving
        self._serving = False
        self._waiting: deque[EncodeJob] = deque()
        self._lease_ids: dict[tuple[str, int], int] = {}
        self._integrity_failures = 0
        self._checked_idle = False
        self.load = self._measure(running=0)

    # -- images --------------------------------------------------------------------------------------------

    def find(self, content_hash: bytes) -> Embedding | None:
        """The embedding of a file where it is in the pool; it is held anew."""
        found = self._pool.find(content_hash)
        self._publish()
        return found

    def submit(self, job: EncodeJob) -> None:
        """Queues an image."""
        self._waiting.append(job)
        self._publish()

    def step(self) -> bool:
        """Encodes the next image, ends what has run out; returns whether more images wait."""
        expired = self._pool.tick()
        if expired:
            log.warning("leases expired", count=len(expired))
        if self._waiting:
            self._encode(self._waiting.popleft())
        self._check_when_idle()
        self._publish()
        return bool(self._waiting)

    def _encode(self, job: EncodeJob) -> None:
        if not job.done.set_running_or_notify_cancel():
            return
        try:
            embedding = self._pool.find(job.content_hash) or self._compute(job)
        except PerigeeError as error:
            self._publish()
            job.done.set_exception(error)
        else:
            self._publish()
            job.done.set_result(embedding)

    def _compute(self, job: EncodeJob) -> Embedding:
        """Reserves pages, runs the model, stores. Without room the model is not run."""
        grid = (job.patches.grid.grid_t, job.patches.grid.grid_h, job.patches.grid.grid_w)
        pages = self._pool.reserve(job.patches.grid.num_tokens)
        self._publish(running=1)
        try:
            values = self._model.encode(torch.from_numpy(job.patches.pixels), grid)
        except (RuntimeError, ValueError) as error:
            # What torch raises for want of memory or a shape it cannot take concerns this image alone.
            self._pool.discard(pages)
            log.exception("encoding failed", grid=grid)
            raise InternalError(f"an image of {grid[1]} x {grid[2]} patches could not be encoded") from error
        return self._pool.store(job.content_hash, grid, pages, values)

    # -- leases --------------------------------------------------------------------------------------------

    def lease(
        self, reader: str, key: int, content_hashes: Sequence[bytes]
    ) -> tuple[Lease, tuple[Embedding, ...]]:
        """Pins embeddings for a reader whose handshake is open. Errors as in EmbeddingPool.lease."""
        lease, embeddings = self._pool.lease(content_hashes, reader, key)
        self._lease_ids[reader, key] = lease.id
        self._publish()
        return lease, embeddings

    def renew(self, reader: str, key: int) -> None:
        """Another full duration. NotFound: the lease ran out."""
        if not self._pool.leases.renew(self._lease_ids.get((reader, key), 0)):
            raise NotFound("the lease ran out before it was renewed")

    def release(self, reader: str, key: int) -> None:
        """The reader has finished. Idempotent."""
        self._pool.leases.release(self._lease_ids.pop((reader, key), 0))
        self._publish()

    def abandon(self, reader: str, key: int) -> None:
        """The stream broke: the pages stay out of use until the reader has settled or is gone. Idempotent."""
        self._pool.leases.abandon(self._lease_ids.get((reader, key), 0))
        self._publish()

    def settled(self, reader: str, keys: Sequence[int]) -> None:
        """The reader will not touch the pages of these leases any more, nor ask for them."""
        self._pool.leases.settled_keys(reader, keys)
        for key in keys:
            self._lease_ids.pop((reader, key), None)
        self._publish()

    def reader_joined(self, reader: str) -> None:
        """A handshake of the reader is open: it may lease."""
        self._pool.leases.reader_joined(reader)

    def reader_gone(self, reader: str) -> None:
        """All leases of this reader are over."""
        self._pool.leases.reader_gone(reader)
        for name in [name for name in self._lease_ids if name[0] == reader]:
            del self._lease_ids[name]
        self._publish()

    # -- the rest ------------------------------------------------------------------------------------------

    def flush(self) -> tuple[int, int]:
        """Drops embeddings nobody holds or leases; returns how many pages and embeddings."""
        dropped = self._pool.flush()
        self._publish()
        return dropped

    def _publish(self, running: int = 0) -> None:
        """Makes the state visible to other threads, before whoever asked hears the answer."""
        self.load = self._measure(running)
        serving = self._pool.lent()
        if serving != self._serving:
            self._serving = serving
            self._on_serving(serving)

    def _measure(self, running: int) -> VisionLoad:
        return VisionLoad(
            running, len(self._waiting), self._pool.counts(), len(self._pool), self._integrity_failures
        )

    def _check_when_idle(self) -> None:
        """Runs the pool's integrity check once whenever the engine falls idle."""
        idle = not self._waiting
        if idle and not self._checked_idle:
            try:
                self._pool.check_integrity()
            except InternalError as error:
                self._integrity_failures += 1
                log.error("embedding pool integrity", detail=error.message)
        self._checked_idle = idle
