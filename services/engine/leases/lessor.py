"""What the owner of pages does with their leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from services.common.errors import NotFound
from services.engine.leases.lease_table import Lease, LeaseTable

log = structlog.get_logger()


class Lessor:
    """Grants and ends the leases of one table, and reports whether a peer may be reading now.

    Used on the thread that owns the pool, except `holds`. The messages of a reader may come in any order,
    late or twice.
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
        """Extends a lease by its full duration. NotFound: the lease ran out."""
        if not self._leases.renew(lease_id):
            raise NotFound("the lease ran out before it was renewed")

    def release(self, lease_id: int) -> None:
        """The reader has finished. NotFound: the lease was over before, so what was read does not count."""
        held = self._leases.release(lease_id)
        self._update_serving()
        if not held:
            raise NotFound("the lease was over before it was released")

    def abandon(self, lease_id: int) -> None:
        """The stream broke: the pages stay out of use until the reader has settled or is gone."""
        self._leases.abandon(lease_id)

    def settled(self, reader: str, lease_keys: Sequence[int]) -> None:
        """The reader will not touch the pages of these leases any more, nor ask for them."""
        self._leases.settled_keys(reader, lease_keys)
        self._update_serving()

    def reader_joined(self, reader: str) -> None:
        """A handshake of the reader is open: it may lease."""
        self._leases.reader_joined(reader)

    def reader_gone(self, reader: str) -> None:
        """All leases of this reader are over."""
        self._leases.reader_gone(reader)
        self._update_serving()

    def expire(self) -> None:
        """Ends the leases whose time has come; call it many times a second."""
        self._log_expired(self._leases.expire())

    def _log_expired(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            log.warning("lease expired", reader=lease.reader, key=lease.key, pages=len(lease.pages))

    def _update_serving(self) -> None:
        serving = self._leases.active() > 0 or self._leases.quarantined() > 0
        if serving != self._serving:
            self._serving = serving
            self._on_serving(serving)
