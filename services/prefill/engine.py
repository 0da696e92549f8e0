"""Fills KV pages: admission, chunked computation, announcements, leases."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog
import torch

from perigee.v1 import prefill_pb2
from services.common.errors import PagesExhausted, PerigeeError
from services.common.page_hash import chain_hashes
from services.engine.batch import PAGE_TOKENS, build_batch
from services.engine.kv_cache.kv_pages import page_crc32
from services.engine.kv_cache.page_pool import PagePool
from services.engine.kv_cache.prefix_cache import PrefixCache
from services.engine.leases.lease_table import LeaseTable
from services.engine.leases.source_order import SourceOrder
from services.engine.media import media_spans
from services.engine.runner import ModelRunner
from services.engine.scheduler.priority_line import PriorityLine
from services.engine.scheduler.token_budget import share_budget
from services.prefill.events import Admitted, Done, NeedsMedia, Ready, Refused, Released, Renewed
from services.prefill.job import Job, JobState
from services.prefill.limits import PrefillLimits, PrefillLoad
from services.prefill.source import PageSource, SourceResult

log = structlog.get_logger()

_OVERLOADED = prefill_pb2.PREFILL_REFUSAL_OVERLOADED
_FAILED = prefill_pb2.PREFILL_REFUSAL_FAILED


class _NobodyWaits(Exception):
    """Every reader of a pass has gone: the rest of it would be computed for nothing."""


class PrefillEngine:
    """Owns pages, prefix cache, leases and the model of a prefill worker. Engine thread only, but for
    `load` and `journal`."""

    def __init__(
        self,
        runner: ModelRunner,
        kv_pages: torch.Tensor,
        limits: PrefillLimits,
        on_serving: Callable[[bool], None],
        source: PageSource,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_serving` hears when the first page is pinned for a peer, and when the last is let go; `source`
        reads the pages that a job's reader has and this worker lacks."""
        self._runner = runner
        self._on_serving = on_serving
        self._source = source
        self._kv_pages = kv_pages
        self._limits = limits
        self._pool = PagePool(kv_pages.shape[0])
        self._cache = PrefixCache(self._pool)
        self._leases = LeaseTable(self._pool, limits.lease_s, clock)
        self._clock = clock
        self._waiting: PriorityLine[Job] = PriorityLine()
        self._renewals: deque[Job] = deque()
        self._active: PriorityLine[Job] = PriorityLine()
        self._announcements = 0
        self._integrity_failures = 0
        self._transfer_bytes = 0
        self._computed_tokens = 0
        self._checked_idle = False
        self._draining = False
        self.journal = self._cache.journal
        self.load = self._measure()

    # -- messages ------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queues a job, or refuses it at once."""
        self._checked_idle = False
        if self._draining:
            self._refuse(job, prefill_pb2.PREFILL_REFUSAL_DRAINING, "the worker is draining")
        elif job.num_pages > self._pool.num_pages:
            self._refuse(
                job,
                prefill_pb2.PREFILL_REFUSAL_TOO_LONG,
                f"{job.num_tokens} tokens need {job.num_pages} pages; the pool has {self._pool.num_pages}",
            )
        elif len(self._waiting) >= self._limits.max_waiting:
            self._refuse(job, _OVERLOADED, f"{len(self._waiting)} requests are waiting already")
        else:
            self._waiting.append(job)

    def source_ended(self, job: Job, result: SourceResult) -> None:
        """The read of a job's leading pages is over; those that did not arrive are computed."""
        self._transfer_bytes += result.bytes_read
        self._pool.quarantine(result.pages_at_risk)
        if job.state is not JobState.READING:
            self._let_go(job)  # it ended while the read went on
            return
        job.state = JobState.COMPUTING
        first = job.computed // PAGE_TOKENS
        job.source_tokens = result.arrived * PAGE_TOKENS
        job.computed += job.source_tokens
        self._runner.share_pages(job.pages[first : first + result.arrived])
        self._remember(job, first, first + result.arrived)
        try:
            self._replace(job, result.pages_at_risk)
        except PagesExhausted as error:
            self._refuse(job, _OVERLOADED, f"no pages in place of those a read has not let go of: {error}")
            return
        self._proceed(job)

    def pages_settled(self, pages: Sequence[int]) -> None:
        """No byte of a read that ended can land in these pages any more."""
        self._pool.settle(pages)

    def media_arrived(self, job: Job, embeddings: dict[int, torch.Tensor]) -> None:
        """The media the engine asked for with NeedsMedia: rows [num_tokens, hidden] by index."""
        if job.state is JobState.NEEDS_MEDIA:
            job.embeddings = embeddings
            job.state = JobState.COMPUTING

    def media_failed(self, job: Job, message: str) -> None:
        """An embedding cannot be had: the job ends. Nothing was announced but cached pages."""
        if job.state is JobState.NEEDS_MEDIA:
            self._refuse(job, prefill_pb2.PREFILL_REFUSAL_MEDIA_LOST, message)

    def request_renewal(self, job: Job) -> None:
        """A renewal came in. Any thread: a long pass must neither cost a lease nor look like silence."""
        self._renewals.append(job)

    def renew(self, job: Job) -> None:
        """Another full lease, or LEASE_EXPIRED; for a job still in the queue, a sign of life."""
        if not self._renewed(job):
            message = "the lease ran out before it was renewed"
            self._refuse(job, prefill_pb2.PREFILL_REFUSAL_LEASE_EXPIRED, message)

    def answer_release(self, job: Job, lease_id: int, generation: int) -> None:
        """Tells a reader that has finished whether its lease is held at this moment; `release` is to follow.

        Any thread: the reader waits, and a pass may be long.
        """
        if lease_id == job.lease_id and self._leases.holds(lease_id, generation):
            job.emit(Released(generation))
        else:
            message = "the lease was over before it was released"
            job.emit(Refused(prefill_pb2.PREFILL_REFUSAL_LEASE_EXPIRED, message))

    def release(self, job: Job) -> None:
        """The reader has everything it wants and no read in flight."""
        self._end(job)
        self._leases.release(job.lease_id)

    def abandon(self, job: Job) -> None:
        """The stream broke: pages stay in quarantine until the reader says settled or is gone."""
        self._end(job)
        self._leases.abandon(job.lease_id)

    def settled(self, reader: str, lease_keys: Sequence[int]) -> None:
        """The reader will not touch the pages of these leases any more; jobs still behind them end."""
        keys = set(lease_keys)
        for job in list(self._active):
            if job.reader == reader and job.lease_key in keys:
                self._refuse(job, _FAILED, "the reader called the lease settled")
        self._leases.settled_keys(reader, lease_keys)

    def reader_joined(self, reader: str) -> None:
        """A handshake of this reader is open."""
        self._leases.reader_joined(reader)

    def reader_gone(self, reader: str) -> None:
        """All jobs and leases of this reader end."""
        for job in [*self._active, *self._waiting]:
            if job.reader == reader:
                self._refuse(job, _FAILED, "the reader's handshake ended")
        self._leases.reader_gone(reader)

    def flush(self) -> int:
        """Drops cached pages nobody holds; returns how many."""
        return self._cache.clear()

    def drain(self) -> int:
        """Admits nothing from now on; returns how many requests remain."""
        self._draining = True
        # Who asked looks at the load next: it must not miss a job that came just before.
        self._publish()
        return len(self._waiting) + len(self._active)

    def undrain(self) -> None:
        """Admits again."""
        self._draining = False

    # -- the step ------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Admits, computes one chunk, announces. Returns whether there is more to do at once."""
        while self._renewals:
            self.renew(self._renewals.popleft())
        expired = self._leases.expire(self._clock())
        if expired:
            log.warning("leases expired", count=len(expired))
        self._admit()
        self._publish()
        shares = share_budget(
            (job for job in self._active if job.state is JobState.COMPUTING), self._limits.chunk_tokens
        )
        if shares:
            self._compute(shares)
        self._check_when_idle()
        self._publish()
        return bool(shares)

    def _publish(self) -> None:
        """Makes the state after a step visible to other threads."""
        was_serving = self.load.serving
        self.load = self._measure()
        if self.load.serving != was_serving:
            self._on_serving(self.load.serving)

    def _admit(self) -> None:
        """Reserves pages for waiting jobs, by priority, as long as there are enough."""
        while self._waiting:
            job = self._waiting.first()
            if not job.hashes:
                spans = media_spans(job.media, job.num_tokens)
                job.hashes = chain_hashes(job.token_ids, spans, job.cache_salt)
            cached = self._cache.match(job.hashes)
            missing = job.num_pages - len(cached)
            if missing > self._pool.available():
                self._pool.release(cached)
                return
            self._waiting.remove(job)
            job.pages = cached + (self._pool.allocate(missing) if missing else [])
            job.computed = job.cached_tokens = len(cached) * PAGE_TOKENS
            self._start(job)

    def _start(self, job: Job) -> None:
        """Leases an admitted job's pages, announces the cached ones, and has the source read where it can."""
        leased = job.pages[job.reader_cached_pages :]
        job.state = JobState.COMPUTING
        self._active.append(job)
        try:
            lease = self._leases.grant(leased, job.reader, job.lease_key)
        except PerigeeError as error:
            self._refuse(job, _FAILED, error.message)
            return
        job.lease_id = lease.id
        job.admitted_at = self._clock()
        job.emit(Admitted(lease, tuple(leased), job.cached_tokens))
        self._announce(job, 0, job.cached_tokens // PAGE_TOKENS, 0, self._kv_pages.shape[1])
        wanted = job.wanted_from_source()
        if wanted:
            job.state = JobState.READING
            indices = slice(wanted.start, wanted.stop)
            hashes, pages = tuple(job.hashes[indices]), tuple(job.pages[indices])
            # None of them is leased to the reader, so to put others in their place is no business of its.
            self._source.start(job, SourceOrder(job.source_address, job.request_id, hashes, pages))
        else:
            self._proceed(job)

    def _proceed(self, job: Job) -> None:
        """What can be found is there: decides what a job waits for."""
        missing = job.missing_media()
        if job.computed == job.num_tokens:
            self._finish(job)
        elif missing:
            job.state = JobState.NEEDS_MEDIA
            job.emit(NeedsMedia(missing))

    def _compute(self, shares: Sequence[tuple[Job, int]]) -> None:
        """One forward pass; layers are announced as soon as they are written."""
        for job, _ in shares:
            job.started_at = job.started_at or self._clock()
        batch = build_batch([job.batch_item(chunk) for job, chunk in shares], self._runner.batch_device)

        def on_layers(first: int, end: int) -> None:
            if self._runner.interruptible and all(job.abandoned for job, _ in shares):
                raise _NobodyWaits
            self._renew_during_pass()
            for job, chunk in shares:
                last = job.computed + chunk
                end_page = job.num_pages if last == job.num_tokens else last // PAGE_TOKENS
                self._announce(job, job.computed // PAGE_TOKENS, end_page, first, end)

        try:
            self._runner.forward(batch, on_layers)
        except _NobodyWaits:
            # What was written is in no cache; the jobs' ends are in the inbox.
            return
        for job, chunk in shares:
            job.computed += chunk
            self._computed_tokens += chunk
            self._remember(job, (job.computed - chunk) // PAGE_TOKENS, job.computed // PAGE_TOKENS)
            if job.computed == job.num_tokens:
                self._finish(job)

    def _remember(self, job: Job, first_page: int, end_page: int) -> None:
        """Makes pages [first_page, end_page), whole and written, findable."""
        for index in range(first_page, end_page):
            self._cache.insert(job.hashes[index], job.pages[index])

    def _replace(self, job: Job, pages: Sequence[int]) -> None:
        """Puts fresh pages in the place of some of a job's. PagesExhausted: nothing changed."""
        fresh = dict(zip(pages, self._pool.allocate(len(pages)), strict=True))
        job.pages = [fresh.get(page, page) for page in job.pages]
        self._pool.release(pages)

    def _announce(self, job: Job, first_page: int, end_page: int, first_layer: int, end_layer: int) -> None:
        """Tells the reader that pages [first_page, end_page) of these layers are written."""
        first_page = max(first_page, job.reader_cached_pages)
        if first_page >= end_page:
            return
        self._announcements += 1
        crc32: tuple[int, ...] = ()
        fraction = self._limits.checksum_fraction
        if int(self._announcements * fraction) != int((self._announcements - 1) * fraction):
            crc32 = tuple(
                page_crc32(self._kv_pages, page, first_layer, end_layer)
                for page in job.pages[first_page:end_page]
            )
        job.emit(Ready(first_page, end_page - first_page, first_layer, end_layer, crc32))

    def _finish(self, job: Job) -> None:
        """Everything is written: from here on the lease alone pins the pages."""
        now = self._clock()
        started = job.started_at or now
        computed = job.num_tokens - job.cached_tokens - job.source_tokens
        job.emit(Done(computed, job.source_tokens, started - job.admitted_at, now - started))
        self._active.remove(job)
        self._let_go(job)
        job.embeddings = {}
        job.state = JobState.DONE

    def _renewed(self, job: Job) -> bool:
        """False: the lease has run out."""
        if job.state is JobState.ENDED:
            return True
        if job.state is JobState.WAITING or self._leases.renew(job.lease_id):
            job.emit(Renewed())
            return True
        return False

    def _renew_during_pass(self) -> None:
        """Applies renewals that came in; refusals, which take pages away, wait for the end of the pass."""
        for _ in range(len(self._renewals)):
            job = self._renewals.popleft()
            if not self._renewed(job):
                self._renewals.append(job)

    # -- ends ----------------------------------------------------------------------------------------------

    def _refuse(self, job: Job, reason: prefill_pb2.PrefillRefusal.ValueType, message: str) -> None:
        """Ends a job with a reason. Its lease, if any, goes on until the reader lets go of it."""
        self._end(job)
        job.emit(Refused(reason, message))

    def _end(self, job: Job) -> None:
        """Takes a job out of the engine, whatever its state. Idempotent. The lease is not touched."""
        if job in self._waiting:
            self._waiting.remove(job)
        elif job in self._active:
            self._active.remove(job)
            if job.state is JobState.READING:
                self._source.stop(job)  # until it has ended, it may post a read into the pages
            else:
                self._let_go(job)
        job.embeddings = {}
        job.state = JobState.ENDED

    def _let_go(self, job: Job) -> None:
        self._pool.release(job.pages)
        job.pages = []

    def _check_when_idle(self) -> None:
        """Runs the pool's integrity check once whenever the engine falls idle."""
        idle = not self._active and not self._waiting
        if idle and not self._checked_idle:
            try:
                self._pool.check_integrity()
            except PerigeeError as error:
                self._integrity_failures += 1
                log.error("page pool integrity", detail=error.message)
        self._checked_idle = idle

    def _measure(self) -> PrefillLoad:
        jobs = (*self._active, *self._waiting)
        return PrefillLoad(
            running=len(self._active),
            waiting=len(self._waiting),
            pages=self._pool.counts(),
            queued_tokens=sum(job.num_tokens - job.computed for job in jobs),
            integrity_failures=self._integrity_failures,
            transfer_bytes=self._transfer_bytes,
            computed_tokens=self._computed_tokens,
        )
