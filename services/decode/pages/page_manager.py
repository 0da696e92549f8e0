"""Pages of a decode worker: the pool, the prefix cache and the bytes behind them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import Protocol

from services.common.page_hash import chain_hashes, chain_root
from services.decode.pages.page_lending import PageLending
from services.decode.request import Request, Sequence
from services.engine.batch import PAGE_TOKENS
from services.engine.host_copy import DeviceEvent
from services.engine.kv_cache.page_pool import PageCounts, PagePool
from services.engine.kv_cache.page_table import PageTable
from services.engine.kv_cache.prefix_cache import PrefixCache, Tail
from services.engine.media import media_spans, media_within


class PageDevice(Protocol):
    """What a page_manager needs of a ModelRunner, and as that has it."""

    def copy(self, source: int, destination: int) -> None: ...
    def share_pages(self, pages: Several[int]) -> None: ...
    def mark(self) -> DeviceEvent: ...


class PageManager:
    """What the engine does with pages, in its own words. Engine thread only.

    The device copies pages later than it is asked to, and what is read from a peer lands whenever it comes.
    So no page is free, to be read into, before the copies from it and to it are over.
    """

    def __init__(self, num_pages: int, device: PageDevice) -> None:
        self._device = device
        self.share_pages = device.share_pages
        self._pool = PagePool(num_pages)
        self._cache = PrefixCache(self._pool)
        self.journal = self._cache.journal
        self._retired: deque[list[PageTable]] = deque()
        # Sources and targets of copies queued behind the steps under way; the sources are held.
        self._copied_from = self.new_table()
        self._copied_to: set[int] = set()

    def lending(
        self, lease_s: float, on_serving: Callable[[bool], None], clock: Callable[[], float]
    ) -> PageLending:
        """Creates the lender of the cached pages; call once."""
        return PageLending(self._pool, self._cache, lease_s, on_serving, clock)

    def new_table(self) -> PageTable:
        """An empty table."""
        return PageTable(self._pool, PAGE_TOKENS)

    def reserve(
        self,
        table: PageTable,
        hashes: Several[bytes],
        request: Request,
        context: Several[int],
        headroom: int,
        is_computed_here: Callable[[int], bool],
    ) -> int | None:
        """Fills an empty table with room for `context`, cached pages first, then a copy of a cached tail.

        The tail is copied only where `is_computed_here` says so of what is missing behind so many cached
        tokens: a fetch reads that page whole, and the copy might come after it.

        Returns how many leading tokens are cached, the last one of the context never. None, with nothing
        held, where fewer than the missing pages plus `headroom` are available.
        """
        cached = self._cache.match(hashes)
        missing = -(-len(context) // PAGE_TOKENS) - len(cached)
        if missing + headroom > self._pool.available():
            self._pool.release(cached)
            return None
        table.adopt(cached)
        start = len(cached) * PAGE_TOKENS
        tail = self._cache.tail(_parent(hashes, len(cached), request.cache_salt))
        wanted = context[start : min(start + PAGE_TOKENS, len(context) - 1)]
        common = 0 if tail is None or missing >= self._pool.available() else tail.common(wanted)
        copies = common and not media_within(request.media, start, start + common)
        if tail is None or not copies or not is_computed_here(start + common):
            table.ensure(len(context))
            return start
        self._pool.retain([tail.page])
        table.ensure(len(context))
        self._copy(tail.page, table.pages[len(cached)])
        self._pool.release([tail.page])
        return start + common

    def cached_tokens(self, hashes: Several[bytes]) -> int:
        """How many leading tokens are in whole cached pages, of pages with these hashes; nothing is held."""
        return len(self._cache.find(hashes)) * PAGE_TOKENS

    def remember_tail(self, sequence: Sequence, num_tokens: int) -> None:
        """Keeps the partial last page of a sequence that ends with `num_tokens` written: sequences that
        continue it can copy that page.
        """
        full = self.whole_pages(num_tokens)
        start = full * PAGE_TOKENS
        if start == num_tokens or media_within(sequence.request.media, start, num_tokens):
            return
        parent = _parent(sequence.hashes, full, sequence.request.cache_salt)
        tail = Tail(sequence.table.pages[full], tuple(sequence.context[start:num_tokens]))
        self._cache.insert_tail(parent, tail)

    def fork(self, table: PageTable, num_tokens: int) -> PageTable:
        """A table for another choice with the same first `num_tokens`. Raises PagesExhausted."""
        fork, copies = table.fork(num_tokens)
        for source, destination in copies:
            self._copy(source, destination)
        return fork

    def step_begins(self) -> None:
        """A computation goes to the device, which may write to pages of all that run until it ends.

        The copies asked for so far are over when it is.
        """
        self._retired.append([self._copied_from])
        self._copied_from = self.new_table()
        self._copied_to.clear()

    def step_ended(self) -> None:
        """The first of those under way is over."""
        for table in self._retired.popleft():
            table.free()

    def retire(self, table: PageTable) -> None:
        """Nobody needs its pages any more: they are free when the device is done with them."""
        if not self._copied_to.isdisjoint(table.pages):
            self._device.mark().wait()
            self._copied_from.free()
            self._copied_to.clear()
        if self._retired:
            self._retired[-1].append(table)
        else:
            table.free()

    def hashes(
        self, request: Request, context: Several[int], num_tokens: int, known: Several[bytes]
    ) -> list[bytes]:
        """Hashes of the whole pages among the first `num_tokens` of a context, given those known so far."""
        spans = media_spans(request.media, num_tokens)
        return chain_hashes(context[:num_tokens], spans, request.cache_salt, PAGE_TOKENS, known)

    def remember(self, hashes: Several[bytes], table: PageTable, start: int, end: int) -> None:
        """Makes the pages findable that became whole when tokens [start, end) were written."""
        for index in range(self.whole_pages(start), self.whole_pages(end)):
            self._cache.insert(hashes[index], table.pages[index])

    @staticmethod
    def whole_pages(num_tokens: int) -> int:
        """How many pages `num_tokens` fill entirely."""
        return num_tokens // PAGE_TOKENS

    def quarantine(self, pages: Several[int]) -> None:
        """A byte may still land in these."""
        self._pool.quarantine(pages)

    def settle(self, pages: Several[int]) -> None:
        """None can any more."""
        self._pool.settle(pages)

    def flush(self) -> int:
        """Drops cached pages nobody holds; returns how many."""
        return self._cache.clear()

    def counts(self) -> PageCounts:
        """Pages by state."""
        return self._pool.counts()

    def check_integrity(self) -> None:
        """Raises InternalError listing what is wrong."""
        self._pool.check_integrity()

    def _copy(self, source: int, destination: int) -> None:
        self._pool.retain([source])
        self._copied_from.adopt([source])
        self._copied_to.add(destination)
        self._device.copy(source, destination)


def _parent(hashes: Several[bytes], page: int, salt: str) -> bytes:
    """What the page with this number in a sequence goes on from."""
    return hashes[page - 1] if page else chain_root(salt)
