"""Who reads which embedding, by the readers' own names for their leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from services.common.errors import NotFound
from services.engine.kv_cache.lease_table import Lease
from services.vision.embedding_pool import Embedding, EmbeddingPool

log = structlog.get_logger()


class Lending:
    """Leases by (reader incarnation, the reader's key), as readers name them when they settle.

    Event loop only. The messages of a reader may come in any order, late or twice.
    """

    def __init__(self, pool: EmbeddingPool, on_serving: Callable[[bool], None]) -> None:
        """`on_serving` hears when the first page is lent to a reader, and when the last has come back."""
        self._pool = pool
        self._on_serving = on_serving
        self._serving = False
        self._lease_ids: dict[tuple[str, int], int] = {}

    def lease(
        self, reader: str, key: int, content_hashes: Sequence[bytes]
    ) -> tuple[Lease, tuple[Embedding, ...]]:
        """Pins embeddings for a reader whose handshake is open. Errors as in EmbeddingPool.lease."""
        lease, embeddings = self._pool.lease(content_hashes, reader, key)
        self._lease_ids[reader, key] = lease.id
        self._update_serving()
        return lease, embeddings

    def renew(self, reader: str, key: int) -> None:
        """Another full duration. NotFound: the lease ran out."""
        if not self._pool.leases.renew(self._lease_ids.get((reader, key), 0)):
            raise NotFound("the lease ran out before it was renewed")

    def release(self, reader: str, key: int) -> None:
        """The reader has finished."""
        self._pool.leases.release(self._lease_ids.pop((reader, key), 0))
        self._update_serving()

    def abandon(self, reader: str, key: int) -> None:
        """The stream broke: the pages stay out of use until the reader has settled or is gone."""
        self._pool.leases.abandon(self._lease_ids.get((reader, key), 0))

    def settled(self, reader: str, keys: Sequence[int]) -> None:
        """The reader will not touch the pages of these leases any more, nor ask for them."""
        self._pool.leases.settled_keys(reader, keys)
        for key in keys:
            self._lease_ids.pop((reader, key), None)
        self._update_serving()

    def reader_joined(self, reader: str) -> None:
        """A handshake of the reader is open: it may lease."""
        self._pool.leases.reader_joined(reader)

    def reader_gone(self, reader: str) -> None:
        """All leases of this reader are over."""
        self._pool.leases.reader_gone(reader)
        for name in [name for name in self._lease_ids if name[0] == reader]:
            del self._lease_ids[name]
        self._update_serving()

    def tick(self) -> None:
        """Ends holds and leases whose time has come; call it many times a second."""
        for lease in self._pool.tick():
            log.warning("lease expired", reader=lease.reader, key=lease.key, pages=len(lease.pages))

    def _update_serving(self) -> None:
        serving = self._pool.lent()
        if serving != self._serving:
            self._serving = serving
            self._on_serving(serving)
