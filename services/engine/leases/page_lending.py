"""Leases of cached pages for prefill workers that lack them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.common.errors import NotFound
from services.engine.kv_cache.page_manager import PageManager
from services.engine.leases.lease_table import Lease, LeaseTable
from services.engine.leases.lessor import Lessor


class PageLending(Lessor):
    """Leases pages of the prefix cache. Engine thread only.

    A lease takes pages that hold their KV already and allocates none, so it never waits for a page; and its
    reader holds all the pages it reads into. Whatever waits here for pages waits for leases at most as long
    as their readers renew them.
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
        """Pins the pages of the longest prefix of `hashes` that is cached; they stay findable.

        NotFound: not even the first is. Else errors as in LeaseTable.grant.
        """
        pages = self._cache.find(hashes)
        if not pages:
            raise NotFound("the first of these pages is not cached any more", "page_hashes")
        return self.grant(pages, reader, key)
