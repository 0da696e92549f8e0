"""Grants, renews and ends leases on the owner's side, and reports whether a peer may be reading now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from services.common.errors import NotFound
from services.engine.leases.lease_table import Lease, LeaseTable

log = structlog.get_logger()


class Lessor:
    """Grants and ends the leases of one table, and reports when serving begins and ends.

    Used on the thread that owns the pool, except `holds`. A reader's messages may arrive in any order, late
    or twice.
    """

    def __init__(self, leases: LeaseTable, on_serving: Callable[[bool], None]) -> None:
        """`on_serving` is called with True when the first lease is granted, and with False when the last one
        is over and settled.
        """
        self._leases = leases
        self._on_serving = on_serving
        self._serving = False

    def grant(self, pages: Sequence[int], reader: str, key: int) -> Lease:
        """Leases pages, none of them free, to a reader. Errors as in LeaseTable.grant."""
        lease = self._leases.grant(pages, reader, key)
        self._update_serving()
        return lease

    def holds(self, lease_id: int, generation: int) -> bool:
        """Returns whether this lease is in force at this moment. Any thread."""
        return self._leases.holds(lease_id, generation)

    def renew(self, lease_id: int) -> None:
        """Extends a lease to its full duration. Raises NotFound if it ran out."""
        if not self._leases.renew(lease_id):
            raise NotFound("the lease ran out before it was renewed")

    def release(self, lease_id: int) -> None:
        """Ends a lease whose reader has finished. Raises NotFound if it was over: then the read does not
        count.
        """
        held = self._leases.release(lease_id)
        self._update_serving()
        if not held:
            raise NotFound("the lease was over before it was released")

    def abandon(self, lease_id: int) -> None:
        """Ends a lease whose stream broke: its pages stay out of use until the reader has settled
        or is gone.
        """
        self._leases.abandon(lease_id)

    def settled(self, reader: str, lease_keys: Sequence[int]) -> None:
        """Ends leases whose pages the reader will neither read nor ask for any more."""
        self._leases.settled_keys(reader, lease_keys)
        self._update_serving()

    def reader_joined(self, reader: str) -> None:
        """Accepts a reader whose handshake is open."""
        self._leases.reader_joined(reader)

    def reader_gone(self, reader: str) -> None:
        """Ends all leases of this reader."""
        self._leases.reader_gone(reader)
        self._update_serving()

    def expire(self) -> None:
        """Ends the leases whose time has run out; call it many times a second."""
        self._log_expired(self._leases.expire())

    def _log_expired(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            log.warning("lease expired", reader=lease.reader, key=lease.key, pages=len(lease.pages))

    def _update_serving(self) -> None:
        serving = self._leases.active() > 0 or self._leases.quarantined() > 0
        if serving != self._serving:
            self._serving = serving
            self._on_serving(serving)
