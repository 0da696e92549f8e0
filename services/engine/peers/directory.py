"""Pairs with the owners of memory that this worker reads: one handshake each, for as long as both live."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import grpc
import structlog

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.common.errors import AlreadyPaired, Incompatible, PerigeeError, Unavailable
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.outgoing import until_none
from services.common.rpc.role import Role
from services.common.rpc.status import from_rpc_error
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.offer_proto import offer_from_proto
from services.engine.kv_transfer.agents.transport_report import PathReport, TransportReport
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.peers.pool_members import PoolMembers
from services.engine.peers.settlement_notifier import Outgoing, SettlementNotifier

log = structlog.get_logger()

_LONGEST_CALL_S = 86_400.0
_TOKEN_BYTES = 16


@dataclass
class Peer:
    """A paired owner of memory. `alive` turns false for good when its handshake stream ends.

    `reader` and `token`: the name under which this worker is paired there, and the secret that proves it to
    this owner; every lease names both.
    """

    address: str
    offer: Offer
    reader: str
    token: bytes = field(repr=False)
    channel: grpc.aio.Channel
    settlements: SettlementNotifier
    alive: bool = True
    link: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def agent_name(self) -> str:
        return self.offer.agent_name

    def settle(self, lease_keys: list[int]) -> None:
        """Tells the owner that no read of these leases is in flight and none will come."""
        self.settlements.notify(lease_keys)


@dataclass
class _Place:
    """State of an address: its channel, the pairing with the worker there, and the notices for that
    worker. `reader` and `token` as in Peer; no token yet: "".
    """

    channel: grpc.aio.Channel
    reader: str
    token: bytes = field(default=b"", repr=False)
    pairing: asyncio.Task[Peer] | None = None
    settlements: SettlementNotifier | None = None
    asked_at: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether no peer is paired and none is being paired."""
        task = self.pairing
        if task is None or not task.done():
            return task is None
        return task.cancelled() or task.exception() is not None or not task.result().alive


class PeerDirectory:
    """Pairs with owners on first use, and again with their successors. Used on the event loop only.

    A peer lives as long as its handshake stream: when that ends, its reads fail, its agent is removed once
    they have settled, and the next `get` pairs with whatever incarnation then answers at the address.
    Replicas come and go under new addresses: an address without a live peer is forgotten if nobody asked for
    it within `forget_after_s`. With an owner of a role in `pools` it pairs only if the pool contains the
    address.
    """

    def __init__(
        self,
        hello: worker_pb2.ReaderHello,
        transfer: TransferThread,
        endpoints: Endpoints,
        pools: Mapping[Role, PoolMembers] = MappingProxyType({}),
        handshake_timeout_s: float = 10.0,
        forget_after_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hello = hello
        self._transfer = transfer
        self._endpoints = endpoints
        self._pools = pools
        self._timeout_s = handshake_timeout_s
        self._forget_after_s = forget_after_s
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._keys = itertools.count(1)

    def next_lease_key(self) -> int:
        """A lease key never used before in this incarnation."""
        return next(self._keys)

    async def get(self, address: str, role: Role) -> Peer:
        """The live peer of `role` at `address`, paired first if necessary. Concurrent callers share an
        attempt.

        Raises Unavailable, which names the address, or Incompatible with the owner's reason, or because the
        address is not in the pool of its role.
        """
        place = self._places.get(address)
        if place is None or place.is_empty:
            await self._check_pool(address, role)
            place = self._places.get(address)
        if place is None:
            self._forget_empty_places()
            place = self._places[address] = _Place(
                self._endpoints.channel(address, role), self._hello.incarnation
            )
        place.asked_at = self._clock()
        pairing = place.pairing
        if pairing is None or place.is_empty:
            if place.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                # It would fail at once until its next attempt to connect, when a successor may be there
                # already.
                self._close_later(place.channel)
                place.channel = self._endpoints.channel(address, role)
            elif self._endpoints.outdated(place.channel):
                # Leases of the former pairing may still end on it: it closes after the last of its calls.
                self._close_later(place.channel, _LONGEST_CALL_S)
                place.channel = self._endpoints.channel(address, role)
            pairing = place.pairing = asyncio.create_task(self._pair(address, place))
        return await asyncio.shield(pairing)

    async def check(self, address: str, role: Role, rounds: int) -> tuple[Peer, PathReport]:
        """The live peer of `role` at `address` and the result of reading its probe: see TransferThread.check.

        Raises what `get` raises, and Overloaded or TransferFailed, which name the address.
        """
        peer = await self.get(address, role)
        try:
            return peer, await asyncio.wrap_future(self._transfer.check(peer.agent_name, rounds))
        except PerigeeError as error:
            raise _named(error, address) from error

    async def close(self) -> None:
        """Ends all handshakes and channels."""
        for place in self._places.values():
            task = place.pairing
            if task is None:
                continue
            task.cancel()
            if task.done() and not task.cancelled() and not task.exception():
                link = task.result().link
                if link is not None:
                    link.cancel()
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await asyncio.gather(*(place.channel.close(grace=None) for place in self._places.values()))

    async def _check_pool(self, address: str, role: Role) -> None:
        pool = self._pools.get(role)
        if pool is not None and not await pool.contains(address):
            raise Incompatible(
                f"worker {address} is not in this worker's {role}_pool ({pool}), so it is not connected to"
            )

    def _forget_empty_places(self) -> None:
        long_ago = self._clock() - self._forget_after_s
        for address, place in list(self._places.items()):
            if place.is_empty and place.asked_at < long_ago:
                del self._places[address]
                self._close_later(place.channel)

    def _close_later(self, channel: grpc.aio.Channel, grace_s: float | None = None) -> None:
        task = asyncio.create_task(channel.close(grace=grace_s))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _pair(self, address: str, place: _Place) -> Peer:
        try:
            return await self._pair_as(address, place)
        except AlreadyPaired as error:
            # The owner knows this worker by another address, its offer was lost, or somebody took the name.
            log.warning("the reader's name is taken", address=address, detail=error.message)
            place.reader, place.token = f"{self._hello.incarnation}-{secrets.token_hex(4)}", b""
            return await self._pair_as(address, place)

    async def _pair_as(self, address: str, place: _Place) -> Peer:
        """Pairs under the name of the place. Raises AlreadyPaired if it belongs to another reader there."""
        outgoing: Outgoing = asyncio.Queue()
        hello = worker_pb2.ReaderHello()
        hello.CopyFrom(self._hello)
        hello.incarnation, hello.reader_token = place.reader, place.token
        outgoing.put_nowait(worker_pb2.HandshakeRequest(hello=hello))
        stream = worker_pb2_grpc.WorkerServiceStub(place.channel).Handshake(until_none(outgoing))
        try:
            offer, report = await self._shake_hands(stream, address, place)
        except BaseException:
            stream.cancel()
            outgoing.put_nowait(None)
            raise
        log.info(
            "paired", address=address, agent=offer.agent_name, transport=report.transport,
            gigabytes_per_second=round(report.gigabytes_per_second, 2),
        )  # fmt: skip
        if place.settlements is None or place.settlements.incarnation != offer.incarnation:
            place.settlements = SettlementNotifier(offer.incarnation)
        place.settlements.opened(outgoing, place.token)
        peer = Peer(address, offer, place.reader, place.token, place.channel, place.settlements)
        peer.link = asyncio.create_task(self._watch(peer, stream, outgoing))
        return peer

    async def _shake_hands(
        self, stream: grpc.aio.StreamStreamCall[Any, Any], address: str, place: _Place
    ) -> tuple[Offer, TransportReport]:
        """The owner's offer, whose token is the place's from now on, and a report on the path to its
        memory.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await stream.read()
            if not isinstance(response, worker_pb2.HandshakeResponse):
                raise Unavailable(f"worker {address} closed the handshake without an offer")
            offer = offer_from_proto(response.offer)
            if len(response.offer.reader_token) != _TOKEN_BYTES:
                raise Incompatible(f"the offer has no reader token of {_TOKEN_BYTES} bytes")
            place.token = response.offer.reader_token
            async with asyncio.timeout(self._timeout_s):
                return offer, await asyncio.wrap_future(self._transfer.connect(offer))
        except grpc.aio.AioRpcError as error:
            raise _named(from_rpc_error(error), address) from error
        except PerigeeError as error:
            raise _named(error, address) from error.__cause__
        except TimeoutError as error:
            raise Unavailable(
                f"worker {address} did not finish the handshake in {self._timeout_s:g} s"
            ) from error

    async def _watch(
        self, peer: Peer, stream: grpc.aio.StreamStreamCall[Any, Any], outgoing: Outgoing
    ) -> None:
        """Waits for the end of the handshake, then drops the peer."""
        try:
            await stream.read()
        except grpc.aio.AioRpcError as error:
            log.warning("peer lost", address=peer.address, agent=peer.agent_name, detail=error.details())
        finally:
            peer.alive = False
            stream.cancel()
            peer.settlements.closed(outgoing)
            outgoing.put_nowait(None)
            self._transfer.disconnect(peer.agent_name)


def _named(error: PerigeeError, address: str) -> PerigeeError:
    """The same error, with a message that names the worker."""
    return error if error.message.startswith("worker ") else error.about(f"worker {address}")
