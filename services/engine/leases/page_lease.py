"""One PageService.Lease call, and the reads made under it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc

from perigee.v1 import pages_pb2, pages_pb2_grpc, vision_pb2
from services.common.errors import PerigeeError, TransferFailed, Unavailable
from services.common.rpc.outgoing import until_none
from services.common.rpc.status import from_rpc_error
from services.engine.kv_cache.kv_pages import layer_pages
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.leases.lease_clock import LeaseClock
from services.engine.leases.source_order import SourceOrder
from services.engine.peers.directory import Peer
from services.engine.peers.granted_pages import check_granted
from services.engine.peers.read_group import ReadGroup

_SLICE_PAGES = 64


class PageLease:
    """Leases pages at their source and reads them, a slice at a time. Event loop only.

    Each answer and each slice has `patience_s`: a hung source costs no more than that, yet a source of many
    pages may take longer in total. A slice counts once the source has confirmed after it, by a renewal or at
    last by the release, that it still held the lease. A source that loses the connection considers this
    reader gone and reuses the pages, and it may notice the loss before the reader does. The first `arrived`
    pages stay valid, whatever happens later.
    """

    def __init__(
        self,
        order: SourceOrder,
        peer: Peer,
        group: ReadGroup,
        lease_key: int,
        num_layers: int,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peer = peer
        self.group = group
        self.lease_key = lease_key
        self.arrived = 0
        self._order = order
        self._num_layers = num_layers
        self._patience_s = patience_s
        self._clock = clock
        self._lease = LeaseClock(clock)
        self._outgoing: asyncio.Queue[pages_pb2.PageLeaseRequest | None] = asyncio.Queue()
        self._stream = pages_pb2_grpc.PageServiceStub(peer.channel).Lease(until_none(self._outgoing))

    async def read(self) -> None:
        """Reads all pages that the source still has, and ends the lease.

        Raises a PerigeeError that names the source: NotFound if it has none of the pages.
        """
        remote = await self._granted()
        local = self._order.pages[: len(remote)]
        for first in range(0, len(local), _SLICE_PAGES):
            end = min(first + _SLICE_PAGES, len(local))
            await self._read_slice(local[first:end], remote[first:end])
            await (self._renew() if end < len(local) else self._release())
            self.arrived = end

    def cancel(self) -> None:
        """Breaks the stream. Idempotent."""
        self._stream.cancel()
        self._outgoing.put_nowait(None)

    @property
    def _name(self) -> str:
        return f"page source {self._order.address}"

    async def _granted(self) -> list[int]:
        """The source's page ids for the leading hashes that it has."""
        start = pages_pb2.PageLeaseStart(
            reader_incarnation=self.peer.reader,
            reader_token=self.peer.token,
            page_hashes=self._order.hashes,
            lease_key=self.lease_key,
        )
        answer = await self._ask(pages_pb2.PageLeaseRequest(start=start), "granted")
        pages = list(answer.granted.pages)
        if not 1 <= len(pages) <= len(self._order.hashes):
            raise TransferFailed(f"{self._name} lent {len(pages)} of {len(self._order.hashes)} pages")
        check_granted(self.peer.offer, RegionKind.KV, pages, self._num_layers, self._name)
        self._lease.granted(answer.granted.lease)
        return pages

    async def _renew(self) -> None:
        self._lease.renewal_sent()
        await self._ask(pages_pb2.PageLeaseRequest(renew=vision_pb2.LeaseRenew()), "renewed")
        self._lease.renewed()

    async def _release(self) -> None:
        answer = await self._ask(pages_pb2.PageLeaseRequest(release=self._lease.release()), "released")
        if not self._lease.is_confirmed_by(answer.released):
            raise TransferFailed(f"{self._name} released another lease than the one it granted")

    async def _ask(self, request: pages_pb2.PageLeaseRequest, kind: str) -> pages_pb2.PageLeaseResponse:
        """Sends a message and returns its answer. Raises Unavailable if that is late or of another kind."""
        self._outgoing.put_nowait(request)
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await self._stream.read()
        except TimeoutError as error:
            raise Unavailable(f"{self._name} did not answer in {self._patience_s:g} s") from error
        except grpc.aio.AioRpcError as error:
            failure: PerigeeError = from_rpc_error(error)
            raise type(failure)(f"{self._name}: {failure.message}") from error
        if not isinstance(answer, pages_pb2.PageLeaseResponse) or answer.WhichOneof("message") != kind:
            raise Unavailable(f"{self._name} ended a lease, {kind} was expected")
        return answer

    async def _read_slice(self, local: tuple[int, ...], remote: list[int]) -> None:
        """Reads every layer of some pages."""
        deadline = min(self._lease.deadline, self._clock() + self._patience_s)
        layers = (self._num_layers, 0, self._num_layers)
        self.group.post(local, layer_pages(local, *layers), layer_pages(remote, *layers), deadline)
        await self.group.completed()
        if self._lease.expired:
            raise TransferFailed(f"the lease of {self._name} ran out during a read")
