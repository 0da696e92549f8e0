"""Leases embeddings to readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.engine.leases.lease_table import Lease
from services.engine.leases.lessor import Lessor
from services.vision.embedding_pool import EmbeddingPool, StoredEmbedding


class EmbeddingLessor(Lessor):
    """A Lessor of embeddings. Event loop only."""

    def __init__(self, pool: EmbeddingPool, on_serving: Callable[[bool], None]) -> None:
        """`on_serving`: as in Lessor."""
        super().__init__(pool.leases, on_serving)
        self._pool = pool

    def lease(
        self, reader: str, key: int, content_hashes: Sequence[bytes]
    ) -> tuple[Lease, tuple[StoredEmbedding, ...]]:
        """Pins embeddings for a reader whose handshake is open. Raises as EmbeddingPool.lease does."""
        lease, embeddings = self._pool.lease(content_hashes, reader, key)
        self._update_serving()
        return lease, embeddings

    def tick(self) -> None:
        """Ends expired holds and leases. Call many times a second."""
        self._log_expired(self._pool.tick())
