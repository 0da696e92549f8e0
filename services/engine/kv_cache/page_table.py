"""The pages of one sequence."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import InternalError
from services.engine.kv_cache.page_pool import PagePool


class PageTable:
    """Holds one reference on every page of one sequence, in order, until `free` empties it."""

    def __init__(self, pool: PagePool, page_tokens: int = 64) -> None:
        self._pool = pool
        self._page_tokens = page_tokens
        self._pages: list[int] = []

    def __len__(self) -> int:
        return len(self._pages)

    @property
    def pages(self) -> Sequence[int]:
        """Page ids; the page of token t is pages[t // page_tokens]. A view that grows with the table, until
        `replace` or `free` puts another one in its place.
        """
        return self._pages

    @property
    def capacity_tokens(self) -> int:
        """Tokens that fit in the pages held."""
        return len(self._pages) * self._page_tokens

    def adopt(self, pages: Sequence[int]) -> None:
        """Appends pages and takes over the caller's references on them."""
        self._pages.extend(pages)

    def ensure(self, num_tokens: int) -> None:
        """Allocates the pages missing for `num_tokens`. On PagesExhausted nothing has changed."""
        missing = -(-num_tokens // self._page_tokens) - len(self._pages)
        if missing > 0:
            self._pages.extend(self._pool.allocate(missing))

    def fork(self, num_tokens: int) -> tuple[PageTable, list[tuple[int, int]]]:
        """A second table for a sequence with the same first `num_tokens`.

        Shares full pages. In place of a partly filled last page the new table gets a page of its own; the
        caller must copy it, (source, destination) in the returned list, before either sequence is written. On
        PagesExhausted nothing has changed.
        """
        if num_tokens > self.capacity_tokens:
            raise InternalError(f"cannot fork {num_tokens} tokens from a table of {self.capacity_tokens}")
        full, rest = divmod(num_tokens, self._page_tokens)
        copied = self._pool.allocate(1 if rest else 0)
        shared = self._pages[:full]
        self._pool.retain(shared)
        table = PageTable(self._pool, self._page_tokens)
        table.adopt([*shared, *copied])
        return table, [(self._pages[full], page) for page in copied]

    def replace(self, pages: Sequence[int]) -> None:
        """Puts fresh pages in the places of some, and frees these. PagesExhausted: nothing changed."""
        fresh = dict(zip(pages, self._pool.allocate(len(pages)), strict=True))
        self._pages = [fresh.get(page, page) for page in self._pages]
        self._pool.release(pages)

    def free(self) -> None:
        """Releases all pages. Idempotent."""
        pages, self._pages = self._pages, []
        self._pool.release(pages)
