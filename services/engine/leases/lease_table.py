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

    A lease ends well by `release`. If its stream breaks (`abandon`) or time runs out (`expire`), the reader
    may still be reading: in one step its pages are quarantined instead, until the reader says that they are
    settled, or is gone itself. A reader's messages may come late, twice or out of order, so operations on a
    lease that is over do nothing, and say so by their result. `quarantined_pages` is what the owner compares
    with its bound. Not thread-safe: the engine-loop thread alone, but for `holds`.

    A lease leaves the table before its pages can be allocated. So one that is in it has kept its pages from
    everybody else since its grant, and a reader that is told so afterwards may trust what it has read.
    """

    def __init__(self, pool: PagePool, duration_s: float, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._duration_s = duration_s
        self._clock = clock
        self._last_id = 0
        # One duration for all, so the order of the last grant or renewal is the order of the deadlines.
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

        Cancelled: `refuses` this reader and key. InternalError: the key names a lease of this reader already.
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
        """Whether `grant` would raise Cancelled: the reader is gone, or said settled before it asked."""
        return reader in self._gone or key in self._settled_early.get(reader, ())

    def renew(self, lease_id: int) -> bool:
        """Gives a lease its full duration again. False: it is over, or its time had run out."""
        lease = self._active.get(lease_id)
        now = self._clock()
        if lease is None or lease.deadline <= now:
            return False
        self._active[lease_id] = replace(lease, deadline=now + lease.duration_s)
        self._active.move_to_end(lease_id)
        return True

    def holds(self, lease_id: int, generation: int) -> bool:
        """Whether this lease is in force at this moment. Any thread: it is one look into the table."""
        lease = self._active.get(lease_id)
        return lease is not None and lease.generation == generation and self._clock() < lease.deadline

    def release(self, lease_id: int) -> bool:
        """Ends a lease whose reader has finished, also one in quarantine.

        False: it was not in force any more, so what was read under it may be somebody else's.
        """
        lease = self._active.get(lease_id)
        held = lease is not None and self._clock() < lease.deadline
        self._end(lease_id)
        return held

    def abandon(self, lease_id: int) -> bool:
        """Quarantines the pages of a lease whose stream broke. False: it was not active any more."""
        lease = self._active.pop(lease_id, None)
        if lease is None:
            return False
        self._pool.quarantine(lease.pages)
        self._pool.unlease(lease.pages)
        self._quarantined[lease_id] = lease
        self._quarantined_pages.update(lease.pages)
        return True

    def expire(self, now: float | None = None) -> list[Lease]:
        """Quarantines the leases whose deadline has come by `now` (default: the clock), and returns them."""
        now = self._clock() if now is None else now
        expired: list[Lease] = []
        while self._active and (lease := next(iter(self._active.values()))).deadline <= now:
            self.abandon(lease.id)
            expired.append(lease)
        return expired

    def settled(self, lease_ids: Sequence[int]) -> int:
        """Ends leases none of whose pages is being read or will be; returns how many were not over before."""
        return sum(self._end(lease_id) for lease_id in lease_ids)

    def settled_keys(self, reader: str, keys: Sequence[int]) -> int:
        """Like `settled`, by the reader's own names. One not seen yet is remembered: see `refuses`."""
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
        """A handshake of the reader is open (again)."""
        self._gone.pop(reader, None)

    def reader_gone(self, reader: str) -> list[Lease]:
        """Ends all leases of a reader that cannot read any more, and refuses it until it joins again.

        Returns those that were still active: what computes for them can stop. Idempotent.
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
        """Leases in force. While there is one, transfers must be polled at serving pace."""
        return len(self._active)

    def quarantined(self) -> int:
        """Leases over but not settled: their readers may still be reading, so this, too, needs serving."""
        return len(self._quarantined)

    def quarantined_pages(self) -> int:
        """Different pages kept out of use by them."""
        return len(self._quarantined_pages)

    def _end(self, lease_id: int) -> bool:
        """Lets go of a lease's pages, wherever it stands. False: it was over before."""
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
            findings.append("the readers' leases are not the leases there are")
        return findings
