"""Pages of a worker: the pool, the prefix cache and the bytes behind them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from services.common.page_hash import chain_hashes, chain_root
from services.engine.batch import PAGE_TOKENS
from services.engine.host_copy import DeviceEvent
from services.engine.kv_cache.page_pool import PageCounts, PagePool
from services.engine.kv_cache.page_table import PageTable
from services.engine.kv_cache.prefix_cache import PrefixCache, Tail
from services.engine.media import Medium, media_spans, media_within


class PageDevice(Protocol):
    """The methods of ModelRunner that a PageManager calls."""

    def copy(self, source: int, destination: int) -> None: ...
    def share_pages(self, pages: Sequence[int]) -> None: ...
    def mark(self) -> DeviceEvent: ...


class HasContent(Protocol):
    """The inputs besides the tokens that determine the contents of a request's pages."""

    @property
    def media(self) -> tuple[Medium, ...]: ...
    @property
    def cache_salt(self) -> str: ...


class PageManager:
    """Reserves, copies, caches and frees the pages of page tables. Engine thread only.

    The device copies pages later than requested, and data read from a peer may land at any time. So a page
    becomes free, and may be read into, only after the copies from it and to it have finished.
    """

    def __init__(self, num_pages: int, device: PageDevice) -> None:
        self._device = device
        self.share_pages = device.share_pages
        self.pool = PagePool(num_pages)
        self.cache = PrefixCache(self.pool)
        self.journal = self.cache.journal
        self._retired: deque[list[PageTable]] = deque()
        # Sources and targets of copies queued behind the steps in flight; the sources are held.
        self._copied_from = self.new_table()
        self._copied_to: set[int] = set()

    def new_table(self) -> PageTable:
        """Returns an empty table."""
        return PageTable(self.pool, PAGE_TOKENS)

    def reserve(
        self, table: PageTable, hashes: Sequence[bytes], num_tokens: int, headroom: int = 0
    ) -> int | None:
        """Fills an empty table with room for `num_tokens`, cached pages first.

        Returns the number of leading tokens that are cached. Returns None and holds nothing if fewer than
        the missing pages plus `headroom` are available.
        """
        cached = self._match(table, hashes, num_tokens, headroom)
        if cached is not None:
            table.ensure(num_tokens)
        return cached

    def reserve_with_tail(
        self,
        table: PageTable,
        hashes: Sequence[bytes],
        request: HasContent,
        context: Sequence[int],
        headroom: int,
        is_computed_here: Callable[[int], bool],
    ) -> int | None:
        """Does what `reserve` does for the tokens of `context`, and then copies a cached tail.

        The tail is copied only if `is_computed_here(n)`, which tells whether this worker computes the tokens
        after the first n. A fetch would read that page whole, and the copy might run after it. The last token
        of the context never counts as cached.
        """
        start = self._match(table, hashes, len(context), headroom)
        if start is None:
            return None
        full, missing = len(table), -(-len(context) // PAGE_TOKENS) - len(table)
        tail = self.cache.tail(_parent(hashes, full, request.cache_salt))
        wanted = context[start : min(start + PAGE_TOKENS, len(context) - 1)]
        common = 0 if tail is None or missing >= self.pool.available() else tail.common(wanted)
        copies = common and not media_within(request.media, start, start + common)
        if tail is None or not copies or not is_computed_here(start + common):
            table.ensure(len(context))
            return start
        self.pool.retain([tail.page])
        table.ensure(len(context))
        self._copy(tail.page, table.pages[full])
        self.pool.release([tail.page])
        return start + common

    def cached_tokens(self, hashes: Sequence[bytes]) -> int:
        """Returns the number of leading tokens in whole cached pages with these hashes; holds no page."""
        return len(self.cache.find(hashes)) * PAGE_TOKENS

    def remember_tail(
        self,
        request: HasContent,
        context: Sequence[int],
        table: PageTable,
        hashes: Sequence[bytes],
        num_tokens: int,
    ) -> None:
        """Keeps the partial last page of a context that ends with `num_tokens` written: sequences that
        continue it can copy that page. `hashes` are those of the whole pages.
        """
        full = self.whole_pages(num_tokens)
        start = full * PAGE_TOKENS
        if start == num_tokens or media_within(request.media, start, num_tokens):
            return
        parent = _parent(hashes, full, request.cache_salt)
        self.cache.insert_tail(parent, Tail(table.pages[full], tuple(context[start:num_tokens])))

    def fork(self, table: PageTable, num_tokens: int) -> PageTable:
        """Returns a table for another choice with the same first `num_tokens`. Raises PagesExhausted."""
        fork, copies = table.fork(num_tokens)
        for source, destination in copies:
            self._copy(source, destination)
        return fork

    def step_begins(self) -> None:
        """Call before a computation goes to the device, which may write to the pages of all running sequences
        until it ends. The copies requested so far have finished by then.
        """
        self._retired.append([self._copied_from])
        self._copied_from = self.new_table()
        self._copied_to.clear()

    def step_ended(self) -> None:
        """Call when the first computation in flight has ended."""
        for table in self._retired.popleft():
            table.free()

    def retire(self, table: PageTable) -> None:
        """Frees the pages of a table that is no longer needed, once the device has finished with them."""
        if not self._copied_to.isdisjoint(table.pages):
            self._device.mark().wait()
            self._copied_from.free()
            self._copied_to.clear()
        if self._retired:
            self._retired[-1].append(table)
        else:
            table.free()

    def hashes(
        self, request: HasContent, context: Sequence[int], num_tokens: int, known: Sequence[bytes] = ()
    ) -> list[bytes]:
        """Returns the hashes of the whole pages among the first `num_tokens` of a context. `known` holds the
        first of these hashes.
        """
        spans = media_spans(request.media, num_tokens)
        return chain_hashes(context[:num_tokens], spans, request.cache_salt, PAGE_TOKENS, known)

    def remember(self, hashes: Sequence[bytes], table: PageTable, start: int, end: int) -> None:
        """Adds the pages that writing tokens [start, end) completed to the prefix cache."""
        for index in range(self.whole_pages(start), self.whole_pages(end)):
            self.cache.insert(hashes[index], table.pages[index])

    @staticmethod
    def whole_pages(num_tokens: int) -> int:
        """Returns the number of pages that `num_tokens` fill entirely."""
        return num_tokens // PAGE_TOKENS

    def quarantine(self, pages: Sequence[int]) -> None:
        """Keeps pages out of use while a transfer may still write to them."""
        self.pool.quarantine(pages)

    def settle(self, pages: Sequence[int]) -> None:
        """Ends a quarantine: no transfer can write to the pages any more."""
        self.pool.settle(pages)

    def flush(self) -> int:
        """Drops cached pages that are not held; returns their number."""
        return self.cache.clear()

    def counts(self) -> PageCounts:
        """Returns the numbers of pages by state."""
        return self.pool.counts()

    def check_integrity(self) -> None:
        """Raises InternalError that lists the violations."""
        self.pool.check_integrity()

    def _match(self, table: PageTable, hashes: Sequence[bytes], num_tokens: int, headroom: int) -> int | None:
        """Puts cached pages into a table; returns the number of their tokens, or None as `reserve` does."""
        cached = self.cache.match(hashes)
        missing = -(-num_tokens // PAGE_TOKENS) - len(cached)
        if missing + headroom > self.pool.available():
            self.pool.release(cached)
            return None
        table.adopt(cached)
        return len(cached) * PAGE_TOKENS

    def _copy(self, source: int, destination: int) -> None:
        self.pool.retain([source])
        self._copied_from.adopt([source])
        self._copied_to.add(destination)
        self._device.copy(source, destination)


def _parent(hashes: Sequence[bytes], page: int, salt: str) -> bytes:
    """Returns the hash of the page before the one with this index, or the root of the chain."""
    return hashes[page - 1] if page else chain_root(salt)
