"""Cached pages, lent to prefill workers that lack them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.common.errors import NotFound
from services.engine.kv_cache.page_pool import PagePool
from services.engine.kv_cache.prefix_cache import PrefixCache
from services.engine.leases.lease_table import Lease, LeaseTable
from services.engine.leases.lessor import Lessor


class PageLending(Lessor):
    """Leases of pages of the prefix cache. Engine thread only.

    A lease takes pages that hold their KV already and allocates none, so it never waits for one; and its
    reader holds all the pages it reads into. What waits here for pages waits for leases at most as long as
    their readers renew them.
    """

    def __init__(
        self,
        pool: PagePool,
        cache: PrefixCache,
        lease_s: float,
        on_serving: Callable[[bool], None],
        clock: Callable[[], float],
    ) -> None:
        """`on_serving` as in Lessor; `clock` in seconds."""
        super().__init__(LeaseTable(pool, lease_s, clock), on_serving)
        self._cache = cache

    def lease(self, reader: str, key: int, hashes: Sequence[bytes]) -> Lease:
        """Pins the pages of the longest prefix of `hashes` that is cached; they stay findable.

        NotFound: not even the first is. Else errors as in LeaseTable.grant.
        """
        pages = self._cache.find(hashes)
        if not pages:
            raise NotFound("the first of these pages is not cached any more", "page_hashes")
        lease = self._leases.grant(pages, reader, key)
        self._update_serving()
        return lease
