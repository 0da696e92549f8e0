"""Fills KV pages: admission, chunked computation, announcements, leases."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import torch

from perigee.v1 import prefill_pb2
from services.common.errors import NotFound, PagesExhausted, PerigeeError
from services.common.fairness.competition import Competition
from services.common.fairness.share import within_share
from services.common.telemetry.tracer import Tracer
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.idle_check import IdleCheck
from services.engine.kv_cache.page_manager import PageManager
from services.engine.leases.lease_table import LeaseTable
from services.engine.leases.lessor import Lessor
from services.engine.leases.source_order import SourceOrder
from services.engine.runner import ModelRunner
from services.engine.scheduler.fair_line import FairLine, one_tenant
from services.engine.scheduler.pass_budget import PassBudget
from services.engine.scheduler.token_budget import share_budget
from services.prefill.announcer import Announcer
from services.prefill.chunk_pass import ChunkPass
from services.prefill.events import Admitted, Done, NeedsMedia, Refused
from services.prefill.job import Job, JobState
from services.prefill.job_leases import EXPIRED, JobLeases
from services.prefill.job_measures import STAGES, JobMeasures
from services.prefill.limits import PrefillLimits, PrefillLoad
from services.prefill.source import PageSource, SourceResult

_OVERLOADED = prefill_pb2.PREFILL_REFUSAL_OVERLOADED
_FAILED = prefill_pb2.PREFILL_REFUSAL_FAILED


class PrefillEngine:
    """The state of a prefill worker: jobs, pages and their leases.

    All methods run on the engine thread. Any may read `load` and `journal`, and use `leases` as that allows.
    """

    def __init__(
        self,
        runner: ModelRunner,
        kv_pages: torch.Tensor,
        limits: PrefillLimits,
        on_serving: Callable[[bool], None],
        source: PageSource,
        *,
        metrics: TextWorkerMetrics | None = None,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_serving`: see Lessor. `source` reads the pages that a job's reader has and this worker lacks.
        `clock`: seconds.
        """
        self._source = source
        self._limits = limits
        self._pages = PageManager(kv_pages.shape[0], runner)
        self._lessor = Lessor(LeaseTable(self._pages.pool, limits.lease_s, clock), on_serving)
        self.leases = JobLeases(self._lessor)
        self._announcer = Announcer(kv_pages, limits.checksum_fraction)
        self._pass = ChunkPass(runner, self._announcer, self._renew_during_pass)
        self._idle_check = IdleCheck(self._pages.check_integrity)
        self._clock = clock
        self._measures = JobMeasures(metrics or TextWorkerMetrics(STAGES), tracer, clock)
        self._competition = Competition(clock)
        self._budget = PassBudget(limits.chunk_tokens, self._competition)
        self._waiting: FairLine[Job] = FairLine()
        self._active: FairLine[Job] = FairLine()
        self._transfer_bytes = 0
        self._computed_tokens = 0
        self._draining = False
        self.journal = self._pages.journal
        self.load = self._measure()

    # -- messages ------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queues a job, or refuses it at once."""
        self._idle_check.note_request()
        self._competition.note(job.tenant)
        self._measures.arrived(job)
        job.table = self._pages.new_table()
        num_pages = self._pages.pool.num_pages
        if self._draining:
            self._refuse(job, prefill_pb2.PREFILL_REFUSAL_DRAINING, "the worker is draining")
        elif job.num_pages > num_pages:
            self._refuse(
                job,
                prefill_pb2.PREFILL_REFUSAL_TOO_LONG,
                f"{job.num_tokens} tokens need {job.num_pages} pages; the pool has {num_pages}",
            )
        elif len(self._waiting) >= self._limits.max_waiting or not self._within_share(job):
            self._refuse(job, _OVERLOADED, f"{len(self._waiting)} requests are waiting already")
        else:
            self._waiting.append(job)

    def source_ended(self, job: Job, result: SourceResult) -> None:
        """The read of a job's leading pages is over; those that did not arrive are computed."""
        self._transfer_bytes += result.bytes_read
        self._measures.read(job, result)
        self._pages.quarantine(result.pages_at_risk)
        if job.state is not JobState.READING:
            job.table.free()  # it ended while the read went on
            return
        self._measures.passed(job, "source")
        job.state = JobState.COMPUTING
        first = self._pages.whole_pages(job.computed)
        job.source_tokens = result.arrived * PAGE_TOKENS
        job.computed += job.source_tokens
        self._pages.share_pages(job.pages[first : first + result.arrived])
        self._pages.remember(job.hashes, job.table, first * PAGE_TOKENS, job.computed)
        try:
            job.table.replace(result.pages_at_risk)
        except PagesExhausted as error:
            self._refuse(job, _OVERLOADED, f"no pages in place of those a read has not let go of: {error}")
            return
        self._proceed(job)

    def pages_settled(self, pages: Sequence[int]) -> None:
        """No byte of a read that ended can land in these pages any more."""
        self._pages.settle(pages)

    def media_arrived(self, job: Job, embeddings: dict[int, torch.Tensor]) -> None:
        """The media the engine asked for with NeedsMedia are there: rows [num_tokens, hidden] by index."""
        if job.state is JobState.NEEDS_MEDIA:
            self._measures.passed(job, "media")
            job.embeddings = embeddings
            job.state = JobState.COMPUTING

    def media_failed(self, job: Job, message: str) -> None:
        """An embedding cannot be had: the job ends. Only cached pages were announced."""
        if job.state is JobState.NEEDS_MEDIA:
            self._refuse(job, prefill_pb2.PREFILL_REFUSAL_MEDIA_LOST, message)

    def renew(self, job: Job) -> None:
        """Extends a job's lease, or refuses the job with LEASE_EXPIRED."""
        if not self.leases.renew(job):
            self._refuse_expired(job)

    def release(self, job: Job) -> None:
        """The reader has everything it wants and no read in flight."""
        self._end(job)
        with contextlib.suppress(NotFound):  # `answer_release` has refused it then
            self._lessor.release(job.lease_id)

    def abandon(self, job: Job) -> None:
        """The stream broke: pages stay in quarantine until the reader has settled or is gone."""
        self._end(job)
        self._lessor.abandon(job.lease_id)

    def settled(self, reader: str, lease_keys: Sequence[int]) -> None:
        """The reader will not touch the pages of these leases any more; jobs still behind them end."""
        keys = set(lease_keys)
        for job in list(self._active):
            if job.reader == reader and job.lease_key in keys:
                self._refuse(job, _FAILED, "the reader called the lease settled")
        self._lessor.settled(reader, lease_keys)

    def reader_joined(self, reader: str) -> None:
        """A handshake of this reader is open."""
        self._lessor.reader_joined(reader)

    def reader_gone(self, reader: str) -> None:
        """All jobs and leases of this reader end."""
        for job in [*self._active, *self._waiting]:
            if job.reader == reader:
                self._refuse(job, _FAILED, "the reader's handshake ended")
        self._lessor.reader_gone(reader)

    def flush(self) -> int:
        """Drops cached pages nobody holds; returns how many."""
        return self._pages.flush()

    def drain(self) -> int:
        """Admits nothing from now on; returns how many requests remain."""
        self._draining = True
        # The caller looks at the load next, which must count a job that came just before.
        self.load = self._measure()
        return len(self._waiting) + len(self._active)

    def undrain(self) -> None:
        """Admits again."""
        self._draining = False

    # -- the step ------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Admits, computes one chunk, announces. Returns whether there is more to do at once."""
        for job in self.leases.renew_requested():
            self._refuse_expired(job)
        self._lessor.expire()
        self._admit()
        self.load = self._measure()
        computing = (job for job in self._active if job.state is JobState.COMPUTING)
        shares = share_budget(one_tenant(computing), self._budget.tokens())
        if shares:
            self._compute(shares)
        self._idle_check.note_step(idle=not self._active and not self._waiting)
        self.load = self._measure()
        return bool(shares)

    def _within_share(self, job: Job) -> bool:
        """Whether a job's tenant may have one more waiting; all may who come without one."""
        free = self._limits.max_waiting - len(self._waiting)
        return not job.tenant or within_share(self._waiting.count(job.tenant), job.weight, free)

    def _admit(self) -> None:
        """Reserves pages for waiting jobs, the tenants in turn, as long as there are enough."""
        while self._waiting:
            job = self._waiting.first()
            if not job.hashes:
                job.hashes = self._pages.hashes(job, job.token_ids, job.num_tokens)
            cached = self._pages.reserve(job.table, job.cacheable_hashes, job.num_tokens)
            if cached is None:
                return
            self._waiting.remove(job)
            self._waiting.charge(job, max(1, job.num_tokens - cached))
            job.computed = job.cached_tokens = cached
            self._start(job)

    def _start(self, job: Job) -> None:
        """Leases an admitted job's pages, announces the cached ones, and has the source read where it can."""
        leased = job.pages[job.reader_cached_pages :]
        job.state = JobState.COMPUTING
        self._active.append(job)
        try:
            lease = self._lessor.grant(leased, job.reader, job.lease_key)
        except PerigeeError as error:
            self._refuse(job, _FAILED, error.message)
            return
        job.lease_id = lease.id
        job.admitted_at = self._measures.passed(job, "queue")
        job.emit(Admitted(lease, tuple(leased), job.cached_tokens))
        self._announcer.announce(job, 0, job.cached_tokens // PAGE_TOKENS, 0, self._announcer.num_layers)
        wanted = job.wanted_from_source()
        if wanted:
            job.state = JobState.READING
            indices = slice(wanted.start, wanted.stop)
            hashes, pages = tuple(job.hashes[indices]), tuple(job.pages[indices])
            # None of them is leased to the reader, so they may be replaced without its knowledge.
            self._source.start(job, SourceOrder(job.source_address, job.request_id, hashes, pages))
        else:
            self._proceed(job)

    def _proceed(self, job: Job) -> None:
        """Decides what a job waits for, once all that can be found of its pages is there."""
        missing = job.missing_media()
        if job.computed == job.num_tokens:
            self._finish(job)
        elif missing:
            job.state = JobState.NEEDS_MEDIA
            job.emit(NeedsMedia(missing))

    def _compute(self, shares: Sequence[tuple[Job, int]]) -> None:
        """Computes a chunk of each job, and finishes those that are complete."""
        for job, _ in shares:
            job.started_at = job.started_at or self._clock()
        began = self._clock()
        if not self._pass.compute(shares):
            return  # the messages that end the jobs have come already
        self._measures.computed(shares, self._clock() - began)
        for job, chunk in shares:
            job.computed += chunk
            self._active.charge(job, chunk)
            self._computed_tokens += chunk
            self._pages.remember(job.hashes, job.table, job.computed - chunk, job.computed)
            if job.computed == job.num_tokens:
                self._finish(job)

    def _finish(self, job: Job) -> None:
        """Everything is written: from here on the lease alone pins the pages."""
        now = self._measures.passed(job, "compute")
        self._measures.ended(job)
        started = job.started_at or now
        computed = job.num_tokens - job.cached_tokens - job.source_tokens
        job.emit(Done(computed, job.source_tokens, started - job.admitted_at, now - started))
        self._active.remove(job)
        job.table.free()
        job.embeddings = {}
        job.state = JobState.DONE

    def _renew_during_pass(self) -> None:
        """Applies renewals that came in; refusals, which take pages away, wait for the end of the pass."""
        for job in self.leases.renew_requested():
            self.leases.request_renewal(job)

    # -- ends ----------------------------------------------------------------------------------------------

    def _refuse(self, job: Job, reason: prefill_pb2.PrefillRefusal.ValueType, message: str) -> None:
        """Ends a job with a reason. Its lease, if any, goes on until the reader releases it."""
        self._measures.refused(job, reason)
        self._end(job)
        job.emit(Refused(reason, message))

    def _refuse_expired(self, job: Job) -> None:
        self._refuse(job, EXPIRED, "the lease ran out before it was renewed")

    def _end(self, job: Job) -> None:
        """Takes a job out of the engine, whatever its state. Idempotent. The lease is not touched."""
        self._measures.ended(job)
        if job in self._waiting:
            self._waiting.remove(job)
        elif job in self._active:
            self._active.remove(job)
            if job.state is JobState.READING:
                self._source.stop(job)  # until it has ended, it may post a read into the pages
            else:
                job.table.free()
        job.embeddings = {}
        job.state = JobState.ENDED

    def _measure(self) -> PrefillLoad:
        jobs = (*self._active, *self._waiting)
        return PrefillLoad(
            running=len(self._active),
            waiting=len(self._waiting),
            pages=self._pages.counts(),
            queued_tokens=sum(job.num_tokens - job.computed for job in jobs),
            integrity_failures=self._idle_check.failures,
            transfer_bytes=self._transfer_bytes,
            computed_tokens=self._computed_tokens,
        )
