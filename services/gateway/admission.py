"""Admission control: bounds the requests in flight before any work is spent on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from perigee.v1 import sampling_pb2
from services.common.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PerigeeError,
    PermissionDenied,
    RateLimited,
    ShuttingDown,
    Unauthenticated,
    Unavailable,
)
from services.common.fairness.share import largest_share, within_share
from services.families.output import DropReason
from services.gateway.access.tenant import Tenant
from services.gateway.cut_off import CutOff
from services.gateway.metrics import GatewayMetrics
from services.gateway.request_record import RequestRecord, finish_name
from services.gateway.workers.stream.token_delta import PromptStats

_METER_S = 1.0


def _nothing() -> int:
    return 0


class Ticket:
    """One admitted request, or one prompt of a batch: its start and the times of its tokens."""

    def __init__(
        self,
        metrics: GatewayMetrics,
        record: RequestRecord,
        clock: Callable[[], float] = time.monotonic,
        tenant: Tenant | None = None,
    ) -> None:
        """`tenant`: whose request it is; None: nobody's in particular."""
        self.started = clock()
        self.record = record
        self.tenant = tenant
        self._generated: Callable[[], int] = _nothing
        self._charged = 0
        self._metrics = metrics
        self._last: dict[int, float] = {}
        self._first = 0.0
        metrics.waiting.inc()

    @property
    def whose(self) -> tuple[int, int]:
        """The tenant's number and weight, for workers; 0 and 1 for nobody's in particular."""
        return (0, 1) if self.tenant is None else (self.tenant.id, self.tenant.weight)

    def tokens(self, choice: int, now: float) -> None:
        """Notes that tokens of a choice have arrived, at that time of the clock."""
        last = self._last.get(choice)
        if last is not None:
            self._metrics.between_tokens.observe(now - last)
        elif not self._last:
            self._metrics.waiting.dec()
            self._metrics.running.inc()
            self._metrics.first_token.observe(now - self.started)
            self._first = now
        self._last[choice] = now

    def answered(
        self, stats: PromptStats, prompt_tokens: int, rendered: float, sent: float, now: float
    ) -> None:
        """Notes that a worker has answered its prompt with tokens or their end: the prompt was rendered, a
        worker asked, and this answer came, at these times of the monotonic clock.

        The worker counts seconds only: its stages are laid one after the other from `sent` on, and the rest
        is the way to it and back.
        """
        add = self.record.timeline.add
        add("submit", rendered, sent)
        began = sent
        for stage, seconds in stats.seconds.items():
            if seconds:
                ended = min(now, began + seconds)
                add(stage, began, ended)
                began = ended
        add("transit", began, now)
        sources = self._metrics.token_sources
        sources.inc("decode_cache", by=stats.cached_tokens)
        sources.inc("prefill_cache", by=stats.prefill_cached_tokens)
        sources.inc("computed", by=max(0, prompt_tokens - stats.all_cached_tokens))

    def gave_up(self, rendered: float, sent: float, now: float) -> None:
        """Notes that no worker answers its prompt any more; times as for `answered`."""
        self.record.timeline.add("submit", rendered, sent)
        self.record.timeline.add("wait", sent, now)

    def take_prompt(self, tokens: int, generated: Callable[[], int]) -> None:
        """Charges the tenant for a prompt that is about to be submitted, and from now on for what
        `generated` counts. Raises RateLimited.
        """
        if self.tenant is not None:
            self.tenant.take_prompt(tokens)
            self._metrics.key_tokens.inc(self.tenant.shown, "prompt", by=tokens)
            self._generated = generated

    def charge(self) -> None:
        """Charges the tenant for what was generated since the last time."""
        if self.tenant is not None:
            count = self._generated() - self._charged
            self._charged += count
            self.tenant.take_generated(count)
            self._metrics.key_tokens.inc(self.tenant.shown, "generated", by=count)

    def spent(
        self, usage: sampling_pb2.Usage, finishes: Sequence[sampling_pb2.FinishReason.ValueType]
    ) -> None:
        """Records the tokens of a generation that has ended, and the finish reasons of its finished choices.

        Called once per prompt.
        """
        self.record.spent(usage, finishes)
        if self._last:
            self.record.decoded(self._first, max(self._last.values()))
        self.charge()
        self._metrics.prompt_tokens.inc(usage.prompt_tokens)
        self._metrics.cached_tokens.inc(usage.cached_tokens)
        self._metrics.generated_tokens.inc(usage.completion_tokens)

    def left_unanswered(self, finishes: Sequence[sampling_pb2.FinishReason.ValueType]) -> None:
        """Records choices that ended behind reasoning with nothing else, by their finish reasons."""
        for finish in finishes:
            self._metrics.unanswered.labels(finish_name(finish)).inc()

    def failed_over(self) -> None:
        """Records that the request continues on another worker after a failure."""
        self.record.failovers += 1
        self._metrics.failovers.inc()

    def refused_call(self) -> None:
        """Records that a tool call of the model was invalid and is withheld."""
        self._metrics.refused_calls.inc()

    def dropped_call(self, reason: DropReason) -> None:
        """Records that a tool call of the model is in no answer."""
        self._metrics.dropped_calls.labels(reason).inc()

    def shown_call(self, held_for: str) -> None:
        """Records that a tool call of the model is in the answer; `held_for`: why it was held, or empty."""
        if held_for:
            self._metrics.held_calls.labels(held_for).inc()
        else:
            self._metrics.streamed_calls.inc()

    def end(self) -> None:
        """Called once, by Admission."""
        # What counts refers to this ticket: without this, only the garbage collector would free both.
        self._generated = _nothing
        (self._metrics.running if self._last else self._metrics.waiting).dec()


class Admission:
    """Counts requests of every door. Used on the event loop only."""

    def __init__(
        self, limit: int, metrics: GatewayMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._metrics = metrics
        self._clock = clock
        self._inside = 0
        self._closed = False
        self._cut_off = CutOff()
        self._metered: set[Ticket] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def enter(
        self, door: str, record: RequestRecord | None = None, tenant: Tenant | None = None
    ) -> Iterator[Ticket]:
        """Admits one request for the length of the block and counts how it ended; `record`: where its ticket
        notes what happens; `tenant`: whose it is.

        Raises Overloaded at the limit, RateLimited at one of the tenant's or when it has its share of the
        limit, and ShuttingDown once closed or when `cut_off` ends the block.
        """
        with self.failing(door, tenant), self._cut_off.watched():
            self._check(tenant)
            ticket = Ticket(self._metrics, record or RequestRecord(), self._clock, tenant)
            self._inside += 1
            self._idle.clear()
            if tenant is not None and tenant.meters_tokens:
                self._metered.add(ticket)
            try:
                yield ticket
            finally:
                self._metered.discard(ticket)
                if tenant is not None:
                    tenant.leave()
                ticket.end()
                self._inside -= 1
                if not self._inside:
                    self._idle.set()
        self._count(door, tenant, "ok")

    def check_batch(self, count: int, tenant: Tenant | None, param: str) -> None:
        """Raises InvalidRequest for `count` requests of one call, field `param`, that could never be inside
        together.
        """
        most, whose = self._limit, "this gateway takes"
        if tenant is not None:
            share = largest_share(tenant.weight, self._limit)
            most, whose = min(share, tenant.record.max_concurrent or share), "this API key may have"
        if count > most:
            raise InvalidRequest(
                f"{count:,} prompts are {count:,} requests, and {whose} at most {most:,} at a time", param
            )

    @contextmanager
    def aside(
        self, door: str, record: RequestRecord | None = None, tenant: Tenant | None = None
    ) -> Iterator[Ticket]:
        """Like `enter`, for a request that asks no worker and is bounded elsewhere: it takes no slot, neither
        of the gateway nor of its tenant, and counts against no limit. Raises ShuttingDown alone.
        """
        with self.failing(door, tenant), self._cut_off.watched():
            if self._closed:
                raise ShuttingDown("the gateway is shutting down")
            ticket = Ticket(self._metrics, record or RequestRecord(), self._clock, tenant)
            try:
                yield ticket
            finally:
                ticket.end()
        self._count(door, tenant, "ok")

    async def meter(self) -> None:
        """Charges running requests once a second, until cancelled: a long answer counts while it is made."""
        while True:
            await asyncio.sleep(_METER_S)
            self.charge()

    def charge(self) -> None:
        """Charges all requests whose tokens are limited for what they have generated so far."""
        for ticket in self._metered:
            ticket.charge()

    @contextmanager
    def failing(self, door: str, tenant: Tenant | None = None) -> Iterator[None]:
        """Counts a request that fails within the block, before it is admitted or after."""
        try:
            yield
        except BaseException as error:
            self._count(door, tenant, _outcome(error))
            raise

    def refused(self, door: str, error: PerigeeError) -> None:
        """Counts a request that is answered by an error before anything of it was read."""
        self._count(door, None, _outcome(error))
        self._metrics.errors.inc(error.reason)

    @property
    def closed(self) -> bool:
        """Whether the gateway is shutting down."""
        return self._closed

    def close(self) -> None:
        """Admits nothing from now on."""
        self._closed = True

    def cut_off(self) -> int:
        """Ends every request inside with ShuttingDown; returns how many calls that were."""
        return self._cut_off.now()

    async def idle(self, within_s: float) -> bool:
        """Waits until no request is inside, at most so long; returns whether none is."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _count(self, door: str, tenant: Tenant | None, outcome: str) -> None:
        self._metrics.requests.inc(door, outcome)
        if tenant is not None:
            self._metrics.key_requests.inc(tenant.shown, outcome)

    def _check(self, tenant: Tenant | None) -> None:
        """Counts a tenant's request in, unless something is against it."""
        if self._closed:
            raise ShuttingDown("the gateway is shutting down")
        if self._inside >= self._limit:
            raise Overloaded(
                f"{self._inside} requests are in flight, the limit; retry later", retry_after_s=1.0
            )
        if tenant is None:
            return
        if not within_share(tenant.inside, tenant.weight, self._limit - self._inside):
            raise RateLimited(
                f"this API key has {tenant.inside} requests in flight, its share of the gateway; retry later",
                retry_after_s=1.0,
            )
        tenant.enter()


def _outcome(error: BaseException) -> str:
    """The `outcome` label. A BaseException that is no Exception means that the caller left."""
    if isinstance(error, InvalidRequest | NotFound):
        return "invalid"
    if isinstance(error, Unauthenticated | PermissionDenied):
        return "refused"
    if isinstance(error, RateLimited):
        return "rate_limited"
    if isinstance(error, Overloaded):
        return "overloaded"
    if isinstance(error, Unavailable):
        return "unavailable"
    if isinstance(error, DeadlineExceeded):
        return "deadline"
    if isinstance(error, Cancelled) or not isinstance(error, Exception):
        return "cancelled"
    return "error" if isinstance(error, PerigeeError) else "defect"
