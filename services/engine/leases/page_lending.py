"""Leases of cached pages for prefill workers that lack them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.common.errors import NotFound
from services.engine.kv_cache.page_manager import PageManager
from services.engine.leases.lease_table import Lease, LeaseTable
from services.engine.leases.lessor import Lessor


class PageLending(Lessor):
    """Leases pages of the prefix cache. Engine thread only.

    A lease takes pages that already hold their KV and allocates none, so it never waits for a page, and its
    reader holds all the pages it reads into. A request that waits here for pages therefore waits for a lease
    at most as long as the lease's reader renews it.
    """

    def __init__(
        self,
        pages: PageManager,
        lease_s: float,
        on_serving: Callable[[bool], None],
        clock: Callable[[], float],
    ) -> None:
        """`on_serving` as in Lessor; `clock` in seconds."""
        super().__init__(LeaseTable(pages.pool, lease_s, clock), on_serving)
        self._cache = pages.cache

    def lease(self, reader: str, key: int, hashes: Sequence[bytes]) -> Lease:
        """Pins the pages of the longest cached prefix of `hashes`; they stay in the prefix cache.

        Raises NotFound if the first page is not cached, and otherwise the errors of LeaseTable.grant.
        """
        pages = self._cache.find(hashes)
        if not pages:
            raise NotFound("the first of these pages is no longer cached", "page_hashes")
        return self.grant(pages, reader, key)
