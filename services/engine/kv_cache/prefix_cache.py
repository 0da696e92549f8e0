"""Finds finished pages by the hash of their tokens, and partly filled ones by the hash before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from services.common.errors import InternalError
from services.engine.kv_cache.cache_journal import CacheJournal
from services.engine.kv_cache.page_pool import PagePool


@dataclass
class CacheStats:
    """Counters since the start: pages looked up, pages found, pages inserted, pages that lost their hash."""

    queried_pages: int = 0
    hit_pages: int = 0
    inserted_pages: int = 0
    evicted_pages: int = 0


@dataclass(frozen=True)
class Tail:
    """A partly filled page: only its first tokens, `token_ids`, are written. A request copies it
    before use.
    """

    page: int
    token_ids: tuple[int, ...]

    def common(self, token_ids: Sequence[int]) -> int:
        """How many leading tokens equal those of `token_ids`."""
        pairs = zip(self.token_ids, token_ids, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class PrefixCache:
    """Maps chained hashes (see page_hash) to the pages that hold their KV.

    A page can be found while requests still hold it, and until the pool evicts it. After each hash, or at the
    root of a chain, there may be one tail: the last page of a sequence that has ended.
    """

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool
        self._page_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}
        self._tail_of: dict[bytes, Tail] = {}
        self._tail_behind: dict[int, bytes] = {}
        self.stats = CacheStats()
        self.journal = CacheJournal()
        pool.attach_cache(self._evicted)
        pool.add_audit(self._findings)

    def __len__(self) -> int:
        return len(self._page_of)

    def find(self, hashes: Sequence[bytes]) -> list[int]:
        """Pages of the longest cached prefix of `hashes`; retains no page and counts no hit."""
        pages: list[int] = []
        for page_hash in hashes:
            page = self._page_of.get(page_hash)
            if page is None:
                break
            pages.append(page)
        return pages

    def match(self, hashes: Sequence[bytes]) -> list[int]:
        """Like `find`, for a request: retains each page once for the caller and counts the hits."""
        pages = self.find(hashes)
        self._pool.retain(pages)
        self.stats.queried_pages += len(hashes)
        self.stats.hit_pages += len(pages)
        return pages

    def insert(self, page_hash: bytes, page: int) -> bool:
        """Makes a page findable by its hash. The caller holds the page, and all its KV is written.
        Idempotent.

        Returns False if another page has the hash already: that page stays, and `page` becomes free at its
        last release. Raises InternalError if nobody holds the page or it has another hash.
        """
        holder = self._page_of.get(page_hash)
        if holder is not None:
            return holder == page
        self._pool.mark_hashed(page)
        self._page_of[page_hash] = page
        self._hash_of[page] = page_hash
        self.stats.inserted_pages += 1
        self.journal.added(page_hash)
        return True

    def tail(self, parent: bytes) -> Tail | None:
        """The tail after the page with this hash, or at the root of a chain. Does not retain its page."""
        return self._tail_of.get(parent)

    def insert_tail(self, parent: bytes, tail: Tail) -> None:
        """Replaces the tail after `parent`. Raises InternalError if nobody holds the page or it has
        a hash.
        """
        self._pool.mark_hashed(tail.page)
        before = self._tail_of.get(parent)
        if before is not None:
            del self._tail_behind[before.page]
            self._pool.forget(before.page)
        self._tail_of[parent], self._tail_behind[tail.page] = tail, parent

    def clear(self) -> int:
        """Drops all pages that nobody holds, and returns how many; held pages stay findable."""
        return self._pool.drop_cached()

    def _evicted(self, page: int) -> None:
        parent = self._tail_behind.pop(page, None)
        if parent is not None:
            del self._tail_of[parent]
            return
        page_hash = self._hash_of.pop(page, None)
        if page_hash is None:
            raise InternalError(f"page {page} was evicted but has no hash")
        del self._page_of[page_hash]
        self.stats.evicted_pages += 1
        self.journal.removed(page_hash)

    def _findings(self) -> list[str]:
        findings = [
            f"page {page} and its hash do not name each other"
            for page, page_hash in self._hash_of.items()
            if self._page_of.get(page_hash) != page
        ]
        if len(self._page_of) != len(self._hash_of):
            findings.append(f"{len(self._page_of)} hashes name {len(self._hash_of)} pages")
        if {parent: tail.page for parent, tail in self._tail_of.items()} != {
            parent: page for page, parent in self._tail_behind.items()
        }:
            findings.append("tails and their pages do not name each other")
        marked = {page for page in range(self._pool.num_pages) if self._pool.is_hashed(page)}
        if odd := sorted(marked ^ (self._hash_of.keys() | self._tail_behind.keys())):
            findings.append(f"only one of pool and cache calls these pages hashed: {odd[:8]}")
        return findings
