"""Counts who holds each page of a pool."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from services.common.errors import InternalError, PagesExhausted


class PageState(IntEnum):
    """State of a page: the first of quarantined, leased, used, cached, free that applies."""

    FREE = 0
    CACHED = 1
    USED = 2
    LEASED = 3
    QUARANTINED = 4


@dataclass(frozen=True)
class PageCounts:
    """Number of pages in each state; they sum to the size of the pool."""

    free: int
    used: int
    cached: int
    leased: int
    quarantined: int

    @property
    def total(self) -> int:
        """All pages of the pool."""
        return self.free + self.used + self.cached + self.leased + self.quarantined


class PagePool:
    """Hands out page ids 0 .. num_pages - 1 and decides when a page may be used again.

    Three counts keep a page from reuse: references (requests of this worker), leases (pins for a peer) and
    quarantines (transfers that may still touch its bytes). When all are zero the page is cached if it has a
    prefix hash, else free. Cached pages are evicted in the order of their last release. One call releases its
    pages from last to first, so a chain passed in sequence order loses its tail first.

    Every operation takes time proportional to the pages it is given. An operation that cannot be carried out
    in full raises and changes nothing; misuse raises InternalError. Not thread-safe: only the engine-loop
    thread may call it.
    """

    def __init__(self, num_pages: int) -> None:
        if num_pages < 1:
            raise InternalError(f"a page pool needs at least one page, not {num_pages}")
        self.num_pages = num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._references = [0] * num_pages
        self._leases = [0] * num_pages
        self._quarantines = [0] * num_pages
        self._hashed = bytearray(num_pages)
        self._tally = [num_pages, 0, 0, 0, 0]
        self._on_evict: Callable[[int], None] | None = None
        self._audits: list[Callable[[], list[str]]] = []

    def attach_cache(self, on_evict: Callable[[int], None]) -> None:
        """Sets the one owner of hashes. `on_evict(page)` is called when a page loses its hash, before its
        reuse.
        """
        if self._on_evict is not None:
            raise InternalError("this page pool has a prefix cache already")
        self._on_evict = on_evict

    def add_audit(self, audit: Callable[[], list[str]]) -> None:
        """Makes `check_integrity` also report what `audit` finds wrong, one text per finding."""
        self._audits.append(audit)

    def allocate(self, count: int) -> list[int]:
        """Takes `count` pages with one reference each; evicts cached pages if too few are free.

        Raises PagesExhausted when fewer are free or evictable; nothing is evicted then.
        """
        if count < 0:
            raise InternalError(f"cannot allocate {count} pages")
        if count > self.available():
            available = f"{self.available()} of {self.num_pages}"
            raise PagesExhausted(f"{count} pages wanted, {available} are free or evictable")
        self._evict(count - len(self._free))
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._references[page] = 1
        self._tally[PageState.FREE] -= count
        self._tally[PageState.USED] += count
        return pages

    def retain(self, pages: Sequence[int]) -> None:
        """Adds one reference per page; each must be referenced or hashed."""
        self._require(pages, lambda page: self._references[page] > 0 or self._hashed[page] > 0, "retain")
        self._shift(pages, self._references, 1)

    def release(self, pages: Sequence[int]) -> None:
        """Drops one reference per page. Pass a chain in sequence order: its tail is then evicted first."""
        self._require_counted(pages, self._references, "release")
        self._shift(pages, self._references, -1)

    def lease(self, pages: Sequence[int]) -> None:
        """Pins pages for a peer; none may be free."""
        self._require(pages, self._is_taken, "lease")
        self._shift(pages, self._leases, 1)

    def unlease(self, pages: Sequence[int]) -> None:
        """Takes back one pin per page."""
        self._require_counted(pages, self._leases, "unlease")
        self._shift(pages, self._leases, -1)

    def quarantine(self, pages: Sequence[int]) -> None:
        """Keeps pages out of use while a transfer may touch them; none may be free."""
        self._require(pages, self._is_taken, "quarantine")
        self._shift(pages, self._quarantines, 1)

    def settle(self, pages: Sequence[int]) -> None:
        """Ends one quarantine per page: that transfer can touch them no more."""
        self._require_counted(pages, self._quarantines, "settle")
        self._shift(pages, self._quarantines, -1)

    def mark_hashed(self, page: int) -> None:
        """Marks a referenced page as hashed: its last release makes it cached, not free. Only for the
        attached cache.
        """
        self._require([page], lambda page: self._references[page] > 0 and not self._hashed[page], "hash")
        self._hashed[page] = 1

    def forget(self, page: int) -> None:
        """Removes a page's hash. Does not call `on_evict`, because the cache itself asks for this. The page
        is free at once if nothing holds it.
        """
        self._require([page], lambda page: self._hashed[page] > 0, "forget")
        if page in self._cached:
            del self._cached[page]
            self._make_free(page)
        else:
            self._hashed[page] = 0

    def drop_cached(self) -> int:
        """Frees all pages that are only cached, and returns how many."""
        count = len(self._cached)
        self._evict(count)
        return count

    def available(self) -> int:
        """Pages `allocate` could give now: free or evictable."""
        return len(self._free) + len(self._cached)

    def references(self, page: int) -> int:
        """How many references a page has."""
        return self._references[page]

    def leases(self, page: int) -> int:
        """How many pins a page has."""
        return self._leases[page]

    def quarantines(self, page: int) -> int:
        """How many transfers may still touch a page."""
        return self._quarantines[page]

    def is_hashed(self, page: int) -> bool:
        """Whether the attached cache knows the page by a hash."""
        return self._hashed[page] > 0

    def state(self, page: int) -> PageState:
        """The state under which the page is counted."""
        if self._quarantines[page]:
            return PageState.QUARANTINED
        if self._leases[page]:
            return PageState.LEASED
        if self._references[page]:
            return PageState.USED
        return PageState.CACHED if self._hashed[page] else PageState.FREE

    def counts(self) -> PageCounts:
        """Pages by state, in constant time."""
        free, cached, used, leased, quarantined = self._tally
        return PageCounts(free=free, used=used, cached=cached, leased=leased, quarantined=quarantined)

    def check_integrity(self) -> None:
        """Recounts everything, in time proportional to the pool; InternalError lists all that is wrong."""
        findings = [*self._findings(), *(finding for audit in self._audits for finding in audit())]
        if findings:
            raise InternalError("page pool integrity: " + "; ".join(findings))

    def _is_taken(self, page: int) -> bool:
        return self.state(page) is not PageState.FREE

    def _require(self, pages: Sequence[int], holds: Callable[[int], bool], verb: str) -> None:
        bad = [page for page in pages if not 0 <= page < self.num_pages or not holds(page)]
        if bad:
            raise InternalError(f"cannot {verb} pages {bad[:8]}: {self._explain(bad[0])}")

    def _require_counted(self, pages: Sequence[int], counts: list[int], verb: str) -> None:
        wanted = Counter(pages)
        self._require(list(wanted), lambda page: counts[page] >= wanted[page], verb)

    def _explain(self, page: int) -> str:
        if not 0 <= page < self.num_pages:
            return f"page {page} is outside 0 .. {self.num_pages - 1}"
        return (
            f"page {page} is {self.state(page).name.lower()}, references {self._references[page]}, "
            f"leases {self._leases[page]}, quarantines {self._quarantines[page]}"
        )

    def _shift(self, pages: Sequence[int], counts: list[int], step: int) -> None:
        for page in reversed(pages):
            before = self.state(page)
            counts[page] += step
            after = self.state(page)
            if before is after:
                continue
            self._tally[before] -= 1
            self._tally[after] += 1
            if before is PageState.CACHED:
                del self._cached[page]
            if after is PageState.CACHED:
                self._cached[page] = None
            elif after is PageState.FREE:
                self._free.append(page)

    def _evict(self, count: int) -> None:
        for _ in range(count):
            page, _ = self._cached.popitem(last=False)
            self._make_free(page)
            if self._on_evict is not None:
                self._on_evict(page)

    def _make_free(self, page: int) -> None:
        """Frees a page that was only cached and has left the eviction list."""
        self._hashed[page] = 0
        self._free.append(page)
        self._tally[PageState.CACHED] -= 1
        self._tally[PageState.FREE] += 1

    def _findings(self) -> list[str]:
        states = [self.state(page) for page in range(self.num_pages)]
        findings = [
            f"page {page} has a negative count: {self._explain(page)}"
            for page in range(self.num_pages)
            if min(self._references[page], self._leases[page], self._quarantines[page]) < 0
        ]
        recount = Counter(states)
        findings += [
            f"{self._tally[state]} pages tallied as {state.name}, {recount[state]} are"
            for state in PageState
            if self._tally[state] != recount[state]
        ]
        if sum(self._tally) != self.num_pages:
            findings.append(f"the states sum to {sum(self._tally)} of {self.num_pages} pages")
        if len(set(self._free)) != len(self._free):
            findings.append("a page is in the free list twice")
        free = {page for page, state in enumerate(states) if state is PageState.FREE}
        cached = {page for page, state in enumerate(states) if state is PageState.CACHED}
        if set(self._free) != free:
            findings.append(f"the free list differs at pages {sorted(set(self._free) ^ free)[:8]}")
        if self._cached.keys() != cached:
            findings.append(f"the eviction list differs at pages {sorted(self._cached.keys() ^ cached)[:8]}")
        return findings
