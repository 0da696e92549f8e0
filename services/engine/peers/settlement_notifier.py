"""What an owner of memory is still to hear about leases on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from perigee.v1 import worker_pb2

Outgoing = asyncio.Queue[worker_pb2.HandshakeRequest | None]


class SettlementNotifier:
    """Says `settled` to one incarnation of an owner, over whichever handshake is open. Event loop only.

    A handshake may break while both sides live. Keys that settle without one wait for the next: the owner
    would keep their pages in quarantine for good.
    """

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._outgoing: Outgoing | None = None
        self._unsaid: list[int] = []

    def opened(self, outgoing: Outgoing) -> None:
        """A handshake is open: what is put into `outgoing` reaches the owner."""
        self._outgoing = outgoing
        if self._unsaid:
            self.say(self._unsaid)
            self._unsaid = []

    def closed(self, outgoing: Outgoing) -> None:
        """That handshake is over."""
        if self._outgoing is outgoing:
            self._outgoing = None

    def say(self, lease_keys: Iterable[int]) -> None:
        """No read of these leases is in flight and none will come."""
        if self._outgoing is None:
            self._unsaid.extend(lease_keys)
            return
        settled = worker_pb2.SettledLeases(lease_keys=lease_keys)
        self._outgoing.put_nowait(worker_pb2.HandshakeRequest(settled=settled))
