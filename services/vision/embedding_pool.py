"""The pool of registered memory that holds embeddings, and their leases."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.common.errors import InvalidRequest, NotFound, PagesExhausted
from services.engine.host_copy import to_device
from services.engine.kv_cache.cache_journal import CacheJournal
from services.engine.kv_cache.page_pool import PageCounts, PagePool, PageState
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.leases.embedding_reader import ROWS_DTYPE
from services.engine.leases.lease_table import Lease, LeaseTable

PAGE_ROWS = 64


@dataclass(frozen=True, eq=False)
class StoredEmbedding:
    """One medium's embedding: `num_tokens` rows in `pages`, 64 per page.

    `grid`: frames, rows and columns of patches.
    """

    content_hash: bytes
    grid: tuple[int, int, int]
    num_tokens: int
    pages: tuple[int, ...]


def allocate_embedding_rows(num_pages: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Returns zeros [num_pages, 64, width] in one allocation on the model's device, in the dtype that readers
    expect.
    """
    return torch.zeros(num_pages, PAGE_ROWS, width, dtype=ROWS_DTYPE, device=device)


def write_embedding(rows: Tensor, pages: Sequence[int], values: Tensor) -> None:
    """Writes `values` [num_tokens, width], on the device of `rows`, into reserved pages of these, in order.
    They are there once the device has done it.

    Zeroes the rest of the last page, so that no reader sees older contents.
    """
    filled = rows.new_zeros(len(pages) * PAGE_ROWS, rows.shape[2])
    filled[: values.shape[0]] = values
    rows[to_device(pages, torch.int64, rows.device)] = filled.view(len(pages), PAGE_ROWS, -1)


def pages_of(num_tokens: int) -> int:
    """Number of pages for `num_tokens` rows."""
    return -(-num_tokens // PAGE_ROWS)


class EmbeddingPool:
    """Stores embeddings by content hash in pages of 64 rows. Event loop only; no method blocks.

    An embedding is *held* (referenced) for `hold_s` after it was stored or last found, so that a reader has
    time to lease it. Afterwards it is only cached, and evicted in LRU order when pages are needed. If pages
    are short, a hold ends early once every caller that stored or found the embedding has leased it. Leased
    and quarantined embeddings are never evicted. The caller that reserved pages owns their bytes until they
    are stored. `leases` may be used directly to renew and end leases.
    """

    def __init__(
        self, rows: Tensor, hold_s: float, lease_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rows`: [num_pages, 64, width]."""
        self._rows = rows
        self._hold_s = hold_s
        self._clock = clock
        self._pages = PagePool(rows.shape[0])
        self._pages.attach_cache(self._evicted)
        self._pages.add_audit(self._findings)
        self.leases = LeaseTable(self._pages, lease_s, clock)
        self.journal = CacheJournal()
        self._by_hash: dict[bytes, StoredEmbedding] = {}
        self._by_page: dict[int, StoredEmbedding] = {}
        # All holds last equally long, so insertion order is the order of deadlines.
        self._held: OrderedDict[StoredEmbedding, float] = OrderedDict()
        # Leases that callers who stored or found the embedding have yet to take.
        self._awaited: dict[StoredEmbedding, int] = {}

    def __len__(self) -> int:
        """Number of embeddings that can be found."""
        return len(self._by_hash)

    def region(self) -> Region:
        """Returns the pool as a memory region for peers; an entry is a page."""
        return Region(
            RegionKind.EMBEDDING,
            self._rows.data_ptr(),
            self._rows[0].numel() * self._rows.element_size(),
            self._rows.shape[0],
            device_id=self._rows.device.index or 0,
            memory_type="VRAM" if self._rows.is_cuda else "DRAM",
        )

    def find(self, content_hash: bytes) -> StoredEmbedding | None:
        """Returns the embedding of a file and restarts its hold; None if it is absent."""
        embedding = self._by_hash.get(content_hash)
        if embedding is not None:
            self._hold(embedding)
            self._awaited[embedding] += 1
        return embedding

    def reserve(self, num_tokens: int) -> list[int]:
        """Reserves pages for a new embedding; the caller stores or discards them.

        Raises PagesExhausted if too many pages are held or leased, InvalidRequest if the pool is too small.
        """
        count = pages_of(num_tokens)
        if count > self._pages.num_pages:
            raise InvalidRequest(
                f"a medium of {num_tokens} tokens needs {count} embedding pages; "
                f"the pool has {self._pages.num_pages}"
            )
        self.tick()
        try:
            return self._pages.allocate(count)
        except PagesExhausted:
            for embedding in [held for held in self._held if not self._awaited[held]]:
                self._end_hold(embedding)
            return self._pages.allocate(count)

    def discard(self, pages: Sequence[int]) -> None:
        """Returns reserved pages to the pool."""
        self._pages.release(pages)

    def store(
        self, content_hash: bytes, grid: tuple[int, int, int], num_tokens: int, pages: Sequence[int]
    ) -> StoredEmbedding:
        """Stores an embedding whose bytes are written to reserved pages; it is held from now on."""
        embedding = StoredEmbedding(content_hash, grid, num_tokens, tuple(pages))
        self._by_hash[content_hash] = embedding
        self.journal.added(content_hash)
        for page in pages:
            self._pages.mark_hashed(page)
            self._by_page[page] = embedding
        # The hold takes over the reservation's reference.
        self._held[embedding] = self._clock() + self._hold_s
        self._awaited[embedding] = 1
        return embedding

    def lease(
        self, content_hashes: Sequence[bytes], reader: str, key: int
    ) -> tuple[Lease, tuple[StoredEmbedding, ...]]:
        """Pins embeddings for a reader, in this order. Raises NotFound, pinning none, if one is absent."""
        missing = [content_hash.hex() for content_hash in content_hashes if content_hash not in self._by_hash]
        if missing:
            raise NotFound(
                f"the embeddings of {', '.join(missing)} are not in the pool any more", "content_hashes"
            )
        embeddings = tuple(self._by_hash[content_hash] for content_hash in content_hashes)
        pages = [page for embedding in embeddings for page in embedding.pages]
        lease = self.leases.grant(pages, reader, key)
        for embedding in embeddings:
            if self._awaited.get(embedding):
                self._awaited[embedding] -= 1
        return lease, embeddings

    def tick(self) -> list[Lease]:
        """Ends expired holds and leases; returns those leases."""
        now = self._clock()
        while self._held and next(iter(self._held.values())) <= now:
            self._end_hold(next(iter(self._held)))
        return self.leases.expire(now)

    def flush(self) -> tuple[int, int]:
        """Drops embeddings that are neither held nor leased; returns how many pages and embeddings."""
        before = len(self._by_hash)
        pages = self._pages.drop_cached()
        return pages, before - len(self._by_hash)

    def counts(self) -> PageCounts:
        """Pages by state.

        `used` pages are being filled; held pages count as `cached`, because no request waits for them.
        """
        counts = self._pages.counts()
        held = sum(
            len(embedding.pages)
            for embedding in self._held
            if self._pages.state(embedding.pages[0]) is PageState.USED
        )
        return replace(counts, used=counts.used - held, cached=counts.cached + held)

    def check_integrity(self) -> None:
        """Raises InternalError listing every violated invariant of the pool."""
        self._pages.check_integrity()

    def _hold(self, embedding: StoredEmbedding) -> None:
        if embedding not in self._held:
            self._pages.retain(embedding.pages)
            self._awaited[embedding] = 0
        self._held[embedding] = self._clock() + self._hold_s
        self._held.move_to_end(embedding)

    def _end_hold(self, embedding: StoredEmbedding) -> None:
        del self._held[embedding], self._awaited[embedding]
        self._pages.release(embedding.pages)

    def _evicted(self, page: int) -> None:
        # The first evicted page removes the whole embedding from the index; its other pages are evicted next.
        embedding = self._by_page.pop(page)
        if self._by_hash.get(embedding.content_hash) is embedding:
            del self._by_hash[embedding.content_hash]
            self.journal.removed(embedding.content_hash)

    def _findings(self) -> list[str]:
        findings = [
            f"embedding {embedding.content_hash.hex()[:12]} has lost a page but is still indexed"
            for embedding in self._by_hash.values()
            if any(self._by_page.get(page) is not embedding for page in embedding.pages)
        ]
        findings += [
            f"page {page} of an embedding is not marked as hashed"
            for page in self._by_page
            if not self._pages.is_hashed(page)
        ]
        findings += [
            f"held embedding {embedding.content_hash.hex()[:12]} is not indexed"
            for embedding in self._held
            if self._by_hash.get(embedding.content_hash) is not embedding
        ]
        return findings
