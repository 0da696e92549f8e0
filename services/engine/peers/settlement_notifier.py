"""Settlement notices for an owner of leased memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from perigee.v1 import worker_pb2

Outgoing = asyncio.Queue[worker_pb2.HandshakeRequest | None]


class SettlementNotifier:
    """Tells a page owner which leases have no read in flight any more. Event loop only.

    Serves one incarnation of the owner. A handshake may break while both sides live, so notices are queued
    while none is open: otherwise the owner would keep the pages in quarantine for good.
    """

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._outgoing: Outgoing | None = None
        self._queued: list[int] = []

    def opened(self, outgoing: Outgoing) -> None:
        """Sends notices through `outgoing`, the queued ones first: a handshake with the owner is open."""
        self._outgoing = outgoing
        if self._queued:
            self.notify(self._queued)
            self._queued = []

    def closed(self, outgoing: Outgoing) -> None:
        """Queues notices again: the handshake of `outgoing` is over."""
        if self._outgoing is outgoing:
            self._outgoing = None

    def notify(self, lease_keys: Iterable[int]) -> None:
        """Tells the owner that no read of these leases is in flight and none will come."""
        if self._outgoing is None:
            self._queued.extend(lease_keys)
            return
        settled = worker_pb2.SettledLeases(lease_keys=lease_keys)
        self._outgoing.put_nowait(worker_pb2.HandshakeRequest(settled=settled))
