"""The bounded, registered memory that embeddings live in, and who may read them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.common.errors import InvalidRequest, NotFound, PagesExhausted
from services.engine.kv_cache.cache_journal import CacheJournal
from services.engine.kv_cache.page_pool import PageCounts, PagePool, PageState
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.leases.lease_table import Lease, LeaseTable

PAGE_ROWS = 64


@dataclass(frozen=True, eq=False)
class Embedding:
    """One medium's rows: `num_tokens` of them in `pages`, 64 a page.

    `grid`: frames, rows and columns of patches.
    """

    content_hash: bytes
    grid: tuple[int, int, int]
    num_tokens: int
    pages: tuple[int, ...]


def allocate_embedding_rows(num_pages: int, width: int, dtype: torch.dtype) -> Tensor:
    """[num_pages, 64, width], one plain allocation."""
    return torch.zeros(num_pages, PAGE_ROWS, width, dtype=dtype)


def write_embedding(rows: Tensor, pages: Sequence[int], values: Tensor) -> None:
    """Writes `values` [num_tokens, width] into reserved pages of `rows`, in order.

    The rest of the last page is zeroed: it must not show what was there before.
    """
    filled = rows.new_zeros(len(pages) * PAGE_ROWS, rows.shape[2])
    filled[: values.shape[0]] = values
    rows[torch.tensor(list(pages))] = filled.view(len(pages), PAGE_ROWS, -1)


def pages_of(num_tokens: int) -> int:
    """Pages that hold `num_tokens` rows."""
    return -(-num_tokens // PAGE_ROWS)


class EmbeddingPool:
    """Embeddings by content hash, in pages of 64 rows. Event loop only: no operation waits.

    An embedding is *held* (referenced) for `hold_s` after it was stored or last found, so that a reader has
    time to lease it; afterwards it is merely cached: the least recently found goes when room is needed. Where
    room is short, a hold ends as soon as everybody who stored or found the embedding has leased it.
    Leased and quarantined ones never go. The bytes of reserved pages belong to whoever reserved them until
    they are stored. `leases` may be used directly to renew and end leases.
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
        self._by_hash: dict[bytes, Embedding] = {}
        self._by_page: dict[int, Embedding] = {}
        # One hold for all, so the order of insertion is the order of the deadlines.
        self._held: OrderedDict[Embedding, float] = OrderedDict()
        # How many leases those who stored or found it have still to take.
        self._awaited: dict[Embedding, int] = {}

    def __len__(self) -> int:
        """Embeddings that can be found."""
        return len(self._by_hash)

    def region(self) -> Region:
        """The pool as peers see it: an entry is a page."""
        return Region(
            RegionKind.EMBEDDING,
            self._rows.data_ptr(),
            self._rows[0].numel() * self._rows.element_size(),
            self._rows.shape[0],
            device_id=self._rows.device.index or 0,
            memory_type="VRAM" if self._rows.is_cuda else "DRAM",
        )

    def find(self, content_hash: bytes) -> Embedding | None:
        """The embedding of a file, held anew; None when it is not here."""
        embedding = self._by_hash.get(content_hash)
        if embedding is not None:
            self._hold(embedding)
            self._awaited[embedding] += 1
        return embedding

    def reserve(self, num_tokens: int) -> list[int]:
        """Takes the pages of an embedding to come; the caller stores into them or discards them.

        PagesExhausted when everything is held or leased; InvalidRequest when no waiting will help.
        """
        count = pages_of(num_tokens)
        if count > self._pages.num_pages:
            raise InvalidRequest(
                f"a medium of {num_tokens} tokens needs {count} pages of a pool of {self._pages.num_pages}: "
                "it does not fit"
            )
        self.tick()
        try:
            return self._pages.allocate(count)
        except PagesExhausted:
            for embedding in [held for held in self._held if not self._awaited[held]]:
                self._end_hold(embedding)
            return self._pages.allocate(count)

    def discard(self, pages: Sequence[int]) -> None:
        """Gives back reserved pages."""
        self._pages.release(pages)

    def store(
        self, content_hash: bytes, grid: tuple[int, int, int], num_tokens: int, pages: Sequence[int]
    ) -> Embedding:
        """Makes reserved pages, written by now, findable and held."""
        embedding = Embedding(content_hash, grid, num_tokens, tuple(pages))
        self._by_hash[content_hash] = embedding
        self.journal.added(content_hash)
        for page in pages:
            self._pages.mark_hashed(page)
            self._by_page[page] = embedding
        # The reservation's reference is the hold's from here on.
        self._held[embedding] = self._clock() + self._hold_s
        self._awaited[embedding] = 1
        return embedding

    def lease(
        self, content_hashes: Sequence[bytes], reader: str, key: int
    ) -> tuple[Lease, tuple[Embedding, ...]]:
        """Pins embeddings for a reader, in the order asked. NotFound: one is not here, nothing is pinned."""
        missing = [content_hash.hex() for content_hash in content_hashes if content_hash not in self._by_hash]
        if missing:
            raise NotFound(f"no embedding of {', '.join(missing)} is here any more", "content_hashes")
        embeddings = tuple(self._by_hash[content_hash] for content_hash in content_hashes)
        pages = [page for embedding in embeddings for page in embedding.pages]
        lease = self.leases.grant(pages, reader, key)
        for embedding in embeddings:
            if self._awaited.get(embedding):
                self._awaited[embedding] -= 1
        return lease, embeddings

    def tick(self) -> list[Lease]:
        """Ends holds and leases whose time has come; returns the leases."""
        now = self._clock()
        while self._held and next(iter(self._held.values())) <= now:
            self._end_hold(next(iter(self._held)))
        return self.leases.expire(now)

    def flush(self) -> tuple[int, int]:
        """Drops what nobody holds or leases; returns how many pages and embeddings."""
        before = len(self._by_hash)
        pages = self._pages.drop_cached()
        return pages, before - len(self._by_hash)

    def counts(self) -> PageCounts:
        """Pages by state: `used` are being filled; held ones are `cached`, for no request waits on them."""
        counts = self._pages.counts()
        held = sum(
            len(embedding.pages)
            for embedding in self._held
            if self._pages.state(embedding.pages[0]) is PageState.USED
        )
        return replace(counts, used=counts.used - held, cached=counts.cached + held)

    def check_integrity(self) -> None:
        """InternalError that lists all that is wrong."""
        self._pages.check_integrity()

    def _hold(self, embedding: Embedding) -> None:
        if embedding not in self._held:
            self._pages.retain(embedding.pages)
            self._awaited[embedding] = 0
        self._held[embedding] = self._clock() + self._hold_s
        self._held.move_to_end(embedding)

    def _end_hold(self, embedding: Embedding) -> None:
        del self._held[embedding], self._awaited[embedding]
        self._pages.release(embedding.pages)

    def _evicted(self, page: int) -> None:
        # The first page to go makes the whole embedding unfindable; its others are the next to go.
        embedding = self._by_page.pop(page)
        if self._by_hash.get(embedding.content_hash) is embedding:
            del self._by_hash[embedding.content_hash]
            self.journal.removed(embedding.content_hash)

    def _findings(self) -> list[str]:
        findings = [
            f"embedding {embedding.content_hash.hex()[:12]} lost a page but can be found"
            for embedding in self._by_hash.values()
            if any(self._by_page.get(page) is not embedding for page in embedding.pages)
        ]
        findings += [
            f"page {page} is not marked" for page in self._by_page if not self._pages.is_hashed(page)
        ]
        findings += [
            f"held embedding {embedding.content_hash.hex()[:12]} cannot be found"
            for embedding in self._held
            if self._by_hash.get(embedding.content_hash) is not embedding
        ]
        return findings
