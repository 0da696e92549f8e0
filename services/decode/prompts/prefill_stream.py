"""One Prefill call, and the reads of the pages it announces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc

from perigee.v1 import prefill_pb2, prefill_pb2_grpc, vision_pb2
from services.common.errors import (
    InvalidRequest,
    MediaLost,
    Overloaded,
    PerigeeError,
    TransferFailed,
    Unavailable,
)
from services.common.rpc.outgoing import until_none
from services.common.rpc.status import from_rpc_error
from services.decode.prompts.announcements import Announcements
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.prompts.received_scores import ReceivedScores
from services.engine.kv_cache.kv_pages import layer_pages
from services.engine.leases.lease_clock import LeaseClock
from services.engine.peers.directory import Peer
from services.engine.peers.read_group import ReadGroup

_RELEASE_TIMEOUT_S = 5.0
_TICK_S = 0.25

_REFUSALS: dict[int, type[PerigeeError]] = {
    prefill_pb2.PREFILL_REFUSAL_OVERLOADED: Overloaded,
    prefill_pb2.PREFILL_REFUSAL_DRAINING: Unavailable,
    prefill_pb2.PREFILL_REFUSAL_TOO_LONG: InvalidRequest,
    prefill_pb2.PREFILL_REFUSAL_MEDIA_LOST: MediaLost,
    prefill_pb2.PREFILL_REFUSAL_LEASE_EXPIRED: TransferFailed,
}


class PrefillStream:
    """A Prefill call that reads pages as they are announced. Event loop only.

    Three concurrent tasks: one receives messages and posts reads, one renews the lease and watches for
    silence, one waits for the last byte. The first that ends or fails determines the outcome.
    """

    def __init__(
        self,
        order: FetchOrder,
        peer: Peer,
        group: ReadGroup,
        lease_key: int,
        num_layers: int,
        verifies: bool,
        on_admitted: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peer = peer
        self.group = group
        self.lease_key = lease_key
        self._order = order
        self._num_layers = num_layers
        self._verifies = verifies
        self._on_admitted = on_admitted
        self._clock = clock
        self._lease = LeaseClock(clock)
        self._outgoing: asyncio.Queue[prefill_pb2.PrefillRequest | None] = asyncio.Queue()
        self._stream = prefill_pb2_grpc.PrefillServiceStub(peer.channel).Prefill(until_none(self._outgoing))
        self._receiving: asyncio.Task[None] | None = None
        self._received_at = clock()
        self._announcements = Announcements(order, num_layers, peer.offer, self._name)
        self._scores = ReceivedScores(order, self._name)
        self._computed_tokens = 0
        self._bytes_before_done = 0
        self._done_at = 0.0
        self._released = False

    async def run(self, silence_s: float) -> FetchResult:
        """Reads and releases every page. Raises a PerigeeError that names the worker."""
        self._outgoing.put_nowait(prefill_pb2.PrefillRequest(start=self._start()))
        self._receiving = asyncio.create_task(self._receive_all())
        keeping = asyncio.create_task(self._keep(silence_s))
        reading = asyncio.create_task(self.group.completed(more=lambda: not self._done_at))
        try:
            await asyncio.wait({self._receiving, keeping, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() or self._receiving.done():
                await (keeping if keeping.done() else self._receiving)
                raise Unavailable(f"{self._name} ended the stream before its pages were read")
            await reading
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            raise type(failure)(f"{self._name}: {failure.message}") from error
        finally:
            keeping.cancel()
            reading.cancel()
        if self._lease.expired:
            raise TransferFailed(f"the lease of {self._name} ran out during a read")
        tail_s = self._clock() - self._done_at
        await self._release(self._receiving)
        return FetchResult(
            error=None,
            computed_tokens=self._computed_tokens,
            bytes_read=self.group.bytes_read,
            bytes_before_done=self._bytes_before_done,
            tail_s=tail_s,
            done_at=self._done_at,
            read_s=self.group.busy_s,
            scores=tuple(self._scores.parts),
        )

    async def _release(self, receiving: asyncio.Task[None]) -> None:
        """Releases the lease after all reads. Raises TransferFailed unless the worker confirms it was held.

        Without that confirmation the pages cannot be trusted. If the connection breaks, the worker regards
        this reader as gone and reuses its pages, perhaps before this reader notices. It also reuses them
        after a message in this reader's name that the lease is settled.
        """
        self._outgoing.put_nowait(prefill_pb2.PrefillRequest(release=self._lease.release()))
        self._outgoing.put_nowait(None)
        failure: Exception | None = None
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT_S):
                await receiving
        except (TimeoutError, PerigeeError, grpc.aio.AioRpcError) as error:
            failure = error
        if not self._released:
            raise TransferFailed(f"{self._name} did not confirm that it held the lease") from failure

    def cancel(self) -> None:
        """Breaks the stream. Idempotent."""
        if self._receiving is not None:
            self._receiving.cancel()
        self._stream.cancel()
        self._outgoing.put_nowait(None)

    @property
    def _name(self) -> str:
        return f"prefill worker {self._order.address}"

    def _start(self) -> prefill_pb2.PrefillStart:
        scoring = self._order.scoring
        return prefill_pb2.PrefillStart(
            request_id=self._order.request_id,
            reader_incarnation=self.peer.reader,
            reader_token=self.peer.token,
            token_ids=self._order.token_ids,
            media=[medium.to_proto() for medium in self._order.media],
            cache_salt=self._order.cache_salt,
            priority=self._order.priority,
            tenant=self._order.tenant,
            tenant_weight=self._order.weight,
            reader_cached_pages=self._order.cached_pages,
            lease_key=self.lease_key,
            source_address=self._order.source_address,
            scoring=None if scoring is None else scoring.to_proto(),
            next_token_id=0 if scoring is None else self._order.next_token_id,
            traceparent=self._order.traceparent,
        )

    async def _receive_all(self) -> None:
        """Handles every message until the stream ends."""
        async for message in self._stream:
            self._received_at = self._clock()
            match message.WhichOneof("message"):
                case "admitted":
                    self._lease.granted(message.admitted.lease)
                    self._announcements.grant(message.admitted.pages)
                    self._on_admitted()
                case "ready":
                    self._read(message.ready)
                case "scores":
                    self._scores.take(message.scores)
                case "done":
                    if not self._scores.is_complete:
                        raise TransferFailed(f"{self._name} sent done before it had sent every score")
                    if not self._announcements.is_complete:
                        raise TransferFailed(
                            f"{self._name} sent done before it had announced every layer page"
                        )
                    self._done_at = self._clock()
                    self._bytes_before_done = self.group.bytes_read
                    self._computed_tokens = message.done.computed_tokens
                    self.group.wake()
                case "renewed":
                    self._lease.renewed()
                case "released":
                    self._released = self._lease.is_confirmed_by(message.released)
                case "refused":
                    error = _REFUSALS.get(message.refused.reason, Unavailable)
                    raise error(f"{self._name} refused: {message.refused.message}")

    def _read(self, ready: prefill_pb2.PagesReady) -> None:
        """Posts the read of the announced layer pages."""
        if self._lease.expired:
            raise TransferFailed(f"the lease of {self._name} ran out before a read")
        announced = self._announcements.take(ready)
        layers = (self._num_layers, announced.first_layer, announced.end_layer)
        self.group.post(
            announced.local,
            layer_pages(announced.local, *layers),
            layer_pages(announced.remote, *layers),
            self._lease.deadline,
            list(ready.crc32) if self._verifies and ready.crc32 else None,
            ready.end_layer - ready.first_layer,
        )

    async def _keep(self, silence_s: float) -> None:
        """Renews the lease when due. Raises Unavailable when the worker is silent for `silence_s`."""
        while True:
            await asyncio.sleep(min(_TICK_S, silence_s / 4))
            if self._lease.renewal_due(silence_s / 3):
                self._lease.renewal_sent()
                self._outgoing.put_nowait(prefill_pb2.PrefillRequest(renew=vision_pb2.LeaseRenew()))
            if self._clock() > self._received_at + silence_s and not self._done_at:
                raise Unavailable(f"{self._name} has been silent for {silence_s:g} s")
