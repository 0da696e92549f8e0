"""Settlement notices for an owner of leased memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from perigee.v1 import worker_pb2

Outgoing = asyncio.Queue[worker_pb2.HandshakeRequest | None]

_REMEMBERED_KEYS = 4096


class SettlementNotifier:
    """Tells a page owner which leases have no read in flight any more. Event loop only.

    Serves one incarnation of the owner. A handshake may break while both sides live, so notices are queued
    while none is open, and the last 4,096 are repeated over the next one, because nobody knows which of them
    arrived: otherwise the owner would keep the pages in quarantine for good.
    """

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._outgoing: Outgoing | None = None
        self._token = b""
        self._last: deque[int] = deque(maxlen=_REMEMBERED_KEYS)

    def opened(self, outgoing: Outgoing, token: bytes) -> None:
        """Sends notices through `outgoing`, the last ones first: a handshake with the owner is open, whose
        offer had this reader token.
        """
        self._outgoing, self._token = outgoing, token
        if self._last:
            self._send(self._last)

    def closed(self, outgoing: Outgoing) -> None:
        """Queues notices again: the handshake of `outgoing` is over."""
        if self._outgoing is outgoing:
            self._outgoing = None

    def notify(self, lease_keys: Iterable[int]) -> None:
        """Tells the owner that no read of these leases is in flight and none will come."""
        keys = list(lease_keys)
        self._last.extend(keys)
        self._send(keys)

    def _send(self, lease_keys: Iterable[int]) -> None:
        if self._outgoing is not None:
            settled = worker_pb2.SettledLeases(lease_keys=lease_keys, reader_token=self._token)
            self._outgoing.put_nowait(worker_pb2.HandshakeRequest(settled=settled))
