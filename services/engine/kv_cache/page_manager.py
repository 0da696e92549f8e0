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
    """What decides, beside the tokens, what a request's pages hold."""

    @property
    def media(self) -> tuple[Medium, ...]: ...
    @property
    def cache_salt(self) -> str: ...


class PageManager:
    """Reserves, copies, caches and frees the pages of page tables. Engine thread only.

    The device copies pages later than it is asked to, and what is read from a peer lands at any time. So a
    page becomes free, and may be read into, only after the copies from it and to it are over.
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

        Returns how many leading tokens are cached. None, with nothing held, where fewer than the missing
        pages plus `headroom` are available.
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

        The tail is copied only if `is_computed_here(n)`: this worker computes what follows the first n
        tokens. A fetch reads that page whole, and the copy might come after it. The last token of the context
        never counts as cached.
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
        """Returns how many leading tokens are in whole cached pages with these hashes; holds none of them."""
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
        continue it can copy that page. `hashes`: those of the whole pages.
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
        until it ends. The copies asked for so far are over then.
        """
        self._retired.append([self._copied_from])
        self._copied_from = self.new_table()
        self._copied_to.clear()

    def step_ended(self) -> None:
        """Call when the first computation in flight is over."""
        for table in self._retired.popleft():
            table.free()

    def retire(self, table: PageTable) -> None:
        """Frees the pages of a table that nobody needs any more, as soon as the device is done with them."""
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
        """Returns the hashes of the whole pages among the first `num_tokens` of a context. `known`: the first
        of them.
        """
        spans = media_spans(request.media, num_tokens)
        return chain_hashes(context[:num_tokens], spans, request.cache_salt, PAGE_TOKENS, known)

    def remember(self, hashes: Sequence[bytes], table: PageTable, start: int, end: int) -> None:
        """Makes the pages findable that became whole when tokens [start, end) were written."""
        for index in range(self.whole_pages(start), self.whole_pages(end)):
            self.cache.insert(hashes[index], table.pages[index])

    @staticmethod
    def whole_pages(num_tokens: int) -> int:
        """Returns how many pages `num_tokens` fill entirely."""
        return num_tokens // PAGE_TOKENS

    def quarantine(self, pages: Sequence[int]) -> None:
        """Keeps pages out of use into which a byte may still land."""
        self.pool.quarantine(pages)

    def settle(self, pages: Sequence[int]) -> None:
        """Ends a quarantine: no byte can land any more."""
        self.pool.settle(pages)

    def flush(self) -> int:
        """Drops cached pages nobody holds; returns how many."""
        return self.cache.clear()

    def counts(self) -> PageCounts:
        """Returns the numbers of pages by state."""
        return self.pool.counts()

    def check_integrity(self) -> None:
        """Raises InternalError listing what is wrong."""
        self.pool.check_integrity()

    def _match(self, table: PageTable, hashes: Sequence[bytes], num_tokens: int, headroom: int) -> int | None:
        """Puts cached pages into a table; returns how many tokens they hold. None: see `reserve`."""
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
