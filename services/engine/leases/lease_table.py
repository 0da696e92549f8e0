"""Pages pinned for peers that read them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.common.errors import Cancelled, InternalError
from services.engine.kv_cache.page_pool import PagePool

_REMEMBERED_READERS = 1024
_REMEMBERED_KEYS = 4096


@dataclass(frozen=True)
class Lease:
    """A reader's right to read `pages` until `deadline` (in the table's clock, seconds).

    id: unique in the table, never 0. generation: grows with every grant, never 0. key: the reader's own name
    for the lease, unique in its incarnation; 0: none.
    """

    id: int
    generation: int
    pages: tuple[int, ...]
    reader: str
    key: int
    deadline: float
    duration_s: float


class LeaseTable:
    """Grants, renews and ends leases on pages of one pool, KV or embeddings.

    A lease ends normally by `release`. If its stream breaks (`abandon`) or its time runs out (`expire`), the
    reader may still be reading: the same step quarantines the pages, until the reader reports them as settled
    or is itself gone. A reader's messages may arrive late, twice or out of order, so an operation on a lease
    that is over does nothing and reports so by its result. The owner compares `quarantined_pages` with its
    bound. Not thread-safe: only the engine-loop thread may call it, except for `holds`.

    A lease leaves the table before its pages can be allocated again. So a lease that is still in the table
    has kept its pages since its grant, and a reader that gets this confirmed after a read may trust the
    bytes.
    """

    def __init__(self, pool: PagePool, duration_s: float, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._duration_s = duration_s
        self._clock = clock
        self._last_id = 0
        # All leases have the same duration, so the order of the last grant or renewal is the order of
        # deadlines.
        self._active: OrderedDict[int, Lease] = OrderedDict()
        self._quarantined: dict[int, Lease] = {}
        self._quarantined_pages: Counter[int] = Counter()
        self._by_reader: dict[str, set[int]] = {}
        self._by_key: dict[tuple[str, int], int] = {}
        self._settled_early: dict[str, OrderedDict[int, None]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        pool.add_audit(self._findings)

    def grant(self, pages: Sequence[int], reader: str, key: int = 0) -> Lease:
        """Pins `pages`, none of them free, for `reader`, an incarnation.

        Raises Cancelled if `refuses` holds for this reader and key, InternalError if the key already names a
        lease of this reader.
        """
        if self.refuses(reader, key):
            raise Cancelled(f"reader {reader} gave up lease {key} before it was granted")
        if key and (reader, key) in self._by_key:
            raise InternalError(f"reader {reader} used lease key {key} twice")
        self._pool.lease(pages)
        self._last_id += 1
        deadline = self._clock() + self._duration_s
        lease = Lease(self._last_id, self._last_id, tuple(pages), reader, key, deadline, self._duration_s)
        self._active[lease.id] = lease
        self._by_reader.setdefault(reader, set()).add(lease.id)
        if key:
            self._by_key[reader, key] = lease.id
        return lease

    def refuses(self, reader: str, key: int) -> bool:
        """Whether `grant` would raise Cancelled: the reader is gone, or reported this key as
        settled already.
        """
        return reader in self._gone or key in self._settled_early.get(reader, ())

    def renew(self, lease_id: int) -> bool:
        """Extends a lease to its full duration from now. False: it is over, or its time has run out."""
        lease = self._active.get(lease_id)
        now = self._clock()
        if lease is None or lease.deadline <= now:
            return False
        self._active[lease_id] = replace(lease, deadline=now + lease.duration_s)
        self._active.move_to_end(lease_id)
        return True

    def holds(self, lease_id: int, generation: int) -> bool:
        """Whether this lease is in force at this moment. Safe from any thread: it is one lookup in
        the table.
        """
        lease = self._active.get(lease_id)
        return lease is not None and lease.generation == generation and self._clock() < lease.deadline

    def release(self, lease_id: int) -> bool:
        """Ends a lease whose reader has finished, also one in quarantine.

        False: it was no longer in force, so the bytes read under it may belong to other pages.
        """
        lease = self._active.get(lease_id)
        held = lease is not None and self._clock() < lease.deadline
        self._end(lease_id)
        return held

    def abandon(self, lease_id: int) -> bool:
        """Quarantines the pages of a lease whose stream broke. False: it was no longer active."""
        lease = self._active.pop(lease_id, None)
        if lease is None:
            return False
        self._pool.quarantine(lease.pages)
        self._pool.unlease(lease.pages)
        self._quarantined[lease_id] = lease
        self._quarantined_pages.update(lease.pages)
        return True

    def expire(self, now: float | None = None) -> list[Lease]:
        """Quarantines the leases whose deadline is at or before `now` (default: the clock), and
        returns them.
        """
        now = self._clock() if now is None else now
        expired: list[Lease] = []
        while self._active and (lease := next(iter(self._active.values()))).deadline <= now:
            self.abandon(lease.id)
            expired.append(lease)
        return expired

    def settled(self, lease_ids: Sequence[int]) -> int:
        """Ends leases whose pages nobody reads or will read; returns how many were not over before."""
        return sum(self._end(lease_id) for lease_id in lease_ids)

    def settled_keys(self, reader: str, keys: Sequence[int]) -> int:
        """Like `settled`, by the reader's own names. Remembers a key that no lease has yet: see `refuses`."""
        ended = 0
        for key in keys:
            lease_id = self._by_key.get((reader, key))
            if lease_id is not None:
                ended += self._end(lease_id)
            elif key and reader not in self._gone:
                early = self._settled_early.setdefault(reader, OrderedDict())
                early[key] = None
                if len(early) > _REMEMBERED_KEYS:
                    early.popitem(last=False)
        return ended

    def reader_joined(self, reader: str) -> None:
        """Accepts a reader whose handshake is open (again)."""
        self._gone.pop(reader, None)

    def reader_gone(self, reader: str) -> list[Lease]:
        """Ends all leases of a reader that cannot read any more, and refuses it until it joins again.

        Returns those that were still active: work for them can stop. Idempotent.
        """
        lease_ids = sorted(self._by_reader.get(reader, ()))
        active = [self._active[lease_id] for lease_id in lease_ids if lease_id in self._active]
        self.settled(lease_ids)
        self._settled_early.pop(reader, None)
        self._gone[reader] = None
        if len(self._gone) > _REMEMBERED_READERS:
            self._gone.popitem(last=False)
        return active

    def active(self) -> int:
        """Number of leases in force. While it is not 0, transfers must be polled at the serving rate."""
        return len(self._active)

    def quarantined(self) -> int:
        """Number of leases over but not settled: their readers may still read, so these need polling too."""
        return len(self._quarantined)

    def quarantined_pages(self) -> int:
        """Number of distinct pages that they keep out of use."""
        return len(self._quarantined_pages)

    def _end(self, lease_id: int) -> bool:
        """Releases a lease's pages, whether it is active or in quarantine. False: it was over before."""
        lease = self._active.pop(lease_id, None)
        if lease is not None:
            self._pool.unlease(lease.pages)
        else:
            lease = self._quarantined.pop(lease_id, None)
            if lease is None:
                return False
            self._pool.settle(lease.pages)
            self._quarantined_pages -= Counter(lease.pages)
        self._forget(lease)
        return True

    def _forget(self, lease: Lease) -> None:
        ids = self._by_reader[lease.reader]
        ids.discard(lease.id)
        if not ids:
            del self._by_reader[lease.reader]
        self._by_key.pop((lease.reader, lease.key), None)

    def _findings(self) -> list[str]:
        leased = Counter(page for lease in self._active.values() for page in lease.pages)
        quarantined = Counter(page for lease in self._quarantined.values() for page in lease.pages)
        findings = [
            f"page {page} is in {count} leases, the pool counts {self._pool.leases(page)}"
            for page, count in leased.items()
            if self._pool.leases(page) < count
        ]
        findings += [
            f"page {page} is in {count} quarantined leases, the pool counts {self._pool.quarantines(page)}"
            for page, count in quarantined.items()
            if self._pool.quarantines(page) < count
        ]
        if quarantined != self._quarantined_pages:
            findings.append("the count of quarantined lease pages is wrong")
        by_reader = {lease_id for ids in self._by_reader.values() for lease_id in ids}
        if by_reader != self._active.keys() | self._quarantined.keys():
            findings.append("the readers' leases differ from the leases in the table")
        return findings
