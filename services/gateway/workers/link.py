"""The gateway's view of one worker: its identity and load, watched while the worker is listed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import grpc
import structlog

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.common.errors import PerigeeError, WorkerLost
from services.common.rpc.cancellation import raise_if_cancelled
from services.common.rpc.status import from_rpc_error
from services.gateway.workers.backoff import Backoff
from services.gateway.workers.cached import CachedNames, CacheIndex
from services.gateway.workers.circuit import Circuit

log = structlog.get_logger()

Answer = TypeVar("Answer")

_INFO_TIMEOUT_S = 5.0
_INTERVAL_MS = 500
# Calls that wait for a lost connection end by themselves in this time.
_LINGER_S = 10.0
# Several reports may be late on a busy machine; a peer this silent is taken for stopped.
_SILENCE_S = 10.0
# The last part of it, waited for apart: what came while this process stood still is delivered in that time.
_DELIVERY_S = 1.0


class WorkerLink:
    """The channel to one address, its last WorkerInfo and LoadReport. Used on the event loop only.

    `up` is set while load reports arrive; `run` watches until cancelled. The pool sets `discovered`: while it
    is false, the worker gets no new request. `calls` counts this gateway's requests that run there, except at
    prefill workers, which do not report the end of a request.

    Plain attributes, because the router reads them of every worker: `requests` and `queued_tokens` (prompt
    tokens to compute) at the worker or on their way to it, `available_pages` free or evictable; 0 while
    unreachable. `cached`: its cache entries, as reported. `by_requests`, `by_queue`: sort keys, smallest
    first; used when no prefix is cached. `serving`: reachable, admitting, and listed by discovery.
    `last_restart_s`: how long its last restart took, until a new incarnation answered; 0.0 before the first.
    """

    def __init__(
        self,
        role: worker_pb2.WorkerRole.ValueType,
        address: str,
        channel: grpc.aio.Channel,
        cached: CachedNames | None = None,
        interval_ms: int = _INTERVAL_MS,
        successor: Callable[[grpc.aio.Channel], grpc.aio.Channel | None] = lambda channel: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`successor`: opens the channel to use in place of one that cannot connect again; None: it can."""
        self.role = role
        self.address = address
        self.channel = channel
        self.up = asyncio.Event()
        self._down = asyncio.Event()
        self._down.set()
        self.serving = False
        self._discovered = True
        self.calls = 0
        self.cached = CacheIndex().member() if cached is None else cached
        self._weigh(0, 0, 0)
        self.stub = worker_pb2_grpc.WorkerServiceStub(channel)
        self._interval_ms = interval_ms
        self._successor = successor
        self._closing: set[asyncio.Task[None]] = set()
        self._info: worker_pb2.WorkerInfo | None = None
        self._load: worker_pb2.LoadReport | None = None
        self._admits = False
        self._complained = False
        self.last_restart_s = 0.0
        # When the last incarnation was lost, and which it was.
        self._lost_at, self._lost_incarnation = 0.0, ""
        self._served_until = float("-inf")
        self._clock = clock
        self.circuit = Circuit(clock)

    @property
    def info(self) -> worker_pb2.WorkerInfo | None:
        """The worker's own description; None while unreachable."""
        return self._info

    @property
    def load(self) -> worker_pb2.LoadReport | None:
        """Its last load report; None while unreachable."""
        return self._load

    @property
    def role_name(self) -> str:
        """ "vision", "prefill" or "decode"."""
        return worker_pb2.WorkerRole.Name(self.role).removeprefix("WORKER_ROLE_").lower()

    @property
    def admits(self) -> bool:
        """Whether it is reachable and its last report says that it takes new requests."""
        return self._admits

    @property
    def reachable(self) -> bool:
        return self.up.is_set()

    @property
    def discovered(self) -> bool:
        return self._discovered

    @discovered.setter
    def discovered(self, discovered: bool) -> None:
        self._discovered = discovered
        self._set_serving()

    @property
    def state(self) -> str:
        """One of "serving", "paused", "leaving", "draining", "unreachable"."""
        if self.serving:
            return "paused" if self.circuit.open else "serving"
        if self._load is None:
            return "unreachable"
        return "draining" if self.discovered else "leaving"

    @property
    def last_served_at(self) -> float:
        """When it last took new requests, seconds of the clock: now, if it does; -inf if it never did."""
        return self._clock() if self.serving else self._served_until

    def note_sent(self) -> None:
        """Counts a request until `note_ended`, independent of reports: a burst spreads over the workers
        before the next report, and the end of a request frees its worker at once.
        """
        self.calls += 1
        self._weigh(self.requests + 1, self.queued_tokens, self.available_pages)

    def note_ended(self) -> None:
        """Ends the count of a request that was sent."""
        self.calls -= 1
        self._weigh(max(0, self.requests - 1), self.queued_tokens, self.available_pages)

    def note_queued(self, tokens: int) -> None:
        """Counts a prompt of so many tokens to be computed until the next report, which will include it."""
        self._weigh(self.requests + 1, self.queued_tokens + tokens, self.available_pages)

    async def run(self) -> None:
        """Watches the worker, again and again, until cancelled."""
        backoff = Backoff()
        while True:
            try:
                await self._watch(backoff)
            except PerigeeError as error:
                raise_if_cancelled()
                self._complain(error)
            finally:
                self._lost()
            self._renew_channel()
            await asyncio.sleep(backoff.delay())

    async def while_up(self, calling: Coroutine[Any, Any, Answer]) -> Answer:
        """Awaits a call of the worker. Raises WorkerLost if the worker falls silent or is lost meanwhile."""
        call = asyncio.ensure_future(calling)
        lost = asyncio.ensure_future(self._down.wait())
        try:
            await asyncio.wait((call, lost), return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise WorkerLost(f"{self.role_name} worker {self.address} was lost")
            return call.result()
        finally:
            lost.cancel()
            call.cancel()

    async def close(self) -> None:
        """Closes the channel, which cancels what runs on it."""
        await asyncio.gather(*self._closing, self.channel.close(grace=None))

    def _renew_channel(self) -> None:
        """Has the next attempt show the current certificate. A channel that is connected stays."""
        if self.channel.get_state() is grpc.ChannelConnectivity.READY:
            return
        renewed = self._successor(self.channel)
        if renewed is None:
            return
        task = asyncio.create_task(self.channel.close(grace=_LINGER_S))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        self.channel, self.stub = renewed, worker_pb2_grpc.WorkerServiceStub(renewed)
        log.info("new certificates for a worker", address=self.address)

    async def _watch(self, backoff: Backoff) -> None:
        request = worker_pb2.WatchLoadRequest(interval_ms=self._interval_ms)
        try:
            info = await self.stub.GetInfo(worker_pb2.GetInfoRequest(), timeout=_INFO_TIMEOUT_S)
            if info.role != self.role:
                log.error("worker has another role", address=self.address, wanted=self.role, found=info.role)
                return
            reports = aiter(self.stub.WatchLoad(request))
            while report := await _next_report(reports):
                self._take_report(info, report)
                backoff.reset()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        except TimeoutError:
            log.warning("worker fell silent", address=self.address, seconds=_SILENCE_S)

    def _complain(self, error: PerigeeError) -> None:
        """Logs once for each time the worker is away, not at every attempt."""
        if not self._complained:
            log.warning("worker unreachable", address=self.address, detail=error.message)
            self._complained = True

    def _take_report(self, info: worker_pb2.WorkerInfo, report: worker_pb2.LoadReport) -> None:
        if not self.reachable:
            log.info("worker reachable", address=self.address, incarnation=info.incarnation)
            if self._lost_incarnation not in ("", info.incarnation):
                self.circuit.close()
                self.last_restart_s = self._clock() - self._lost_at
        if report.HasField("cache"):
            self._remember(report.cache)
            report.ClearField("cache")
        self._info, self._load = info, report
        self._admits = not report.draining
        self._set_serving()
        pages = report.pages.free + report.pages.cached
        self._weigh(max(self.calls, report.running + report.waiting), report.queued_tokens, pages)
        self._complained = False
        self._down.clear()
        self.up.set()

    def _set_serving(self) -> None:
        served, self.serving = self.serving, self._admits and self._discovered
        if served and not self.serving:
            self._served_until = self._clock()

    def _weigh(self, requests: int, queued_tokens: int, available_pages: int) -> None:
        self.requests, self.queued_tokens, self.available_pages = requests, queued_tokens, available_pages
        self.by_requests = requests, -available_pages
        self.by_queue = queued_tokens, requests

    def _remember(self, changes: worker_pb2.CacheChanges) -> None:
        if changes.reset:
            self.cached.clear()
        self.cached.change(changes.added, changes.removed)

    def _lost(self) -> None:
        if self.reachable:
            log.warning("worker lost", address=self.address)
        if self._info is not None:
            self._lost_at, self._lost_incarnation = self._clock(), self._info.incarnation
        self._info = self._load = None
        self._admits = False
        self._set_serving()
        self._weigh(0, 0, 0)
        self.cached.clear()
        self.up.clear()
        self._down.set()


async def _next_report(reports: AsyncIterator[worker_pb2.LoadReport]) -> worker_pb2.LoadReport | None:
    """None at the end of the stream; TimeoutError when nothing comes for too long."""
    coming = asyncio.ensure_future(anext(reports, None))
    try:
        for patience in (_SILENCE_S - _DELIVERY_S, _DELIVERY_S):
            done, _ = await asyncio.wait({coming}, timeout=patience)
            if done:
                return coming.result()
        raise TimeoutError
    finally:
        coming.cancel()
