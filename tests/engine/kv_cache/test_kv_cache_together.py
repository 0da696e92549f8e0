"""Pool, prefix cache, leases and page tables against a model that only counts, in random order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from services.common.errors import Cancelled, InternalError, PagesExhausted
from services.common.page_hash import chain_hashes
from services.engine.kv_cache.page_pool import PageCounts, PagePool
from services.engine.kv_cache.page_table import PageTable
from services.engine.kv_cache.prefix_cache import PrefixCache
from services.engine.leases.lease_table import Lease, LeaseTable

NUM_PAGES = 12
PAGE_TOKENS = 4
DURATION_S = 10.0
PROMPTS = [[0] * 8 + [prompt] * 16 for prompt in range(3)] + [[9] * 40]
HASHES = [chain_hashes(prompt, page_tokens=PAGE_TOKENS) for prompt in PROMPTS]
READERS = ["decode-1", "decode-2"]

readers = st.sampled_from(READERS)
prompts = st.integers(0, len(PROMPTS) - 1)


class Sequence:
    """A sequence of the model: the table under test, the pages it should hold, the prompt it follows."""

    def __init__(self, table: PageTable, prompt: int) -> None:
        self.table, self.prompt, self.pages = table, prompt, list(table.pages)


class KvCacheMachine(RuleBasedStateMachine):
    sequences = Bundle("sequences")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pool = PagePool(NUM_PAGES)
        self.cache = PrefixCache(self.pool)
        self.table = LeaseTable(self.pool, DURATION_S, lambda: self.now)
        self.live: list[Sequence] = []
        self.active: dict[int, tuple[Lease, float]] = {}
        self.quarantined: dict[int, Lease] = {}
        self.reads: list[list[int]] = []
        self.gone: set[str] = set()

    def held(self) -> set[int]:
        leased = [lease.pages for lease, _ in self.active.values()]
        settling = [lease.pages for lease in self.quarantined.values()]
        pages = [sequence.pages for sequence in self.live] + self.reads
        return {page for group in [*leased, *settling, *pages] for page in group}

    @rule(target=sequences, prompt=prompts)
    def start(self, prompt):
        table = PageTable(self.pool, PAGE_TOKENS)
        table.adopt(self.cache.match(HASHES[prompt]))
        assert len(set(table.pages)) == len(table.pages)
        sequence = Sequence(table, prompt)
        self.live.append(sequence)
        return sequence

    @rule(sequence=sequences, pages=st.integers(1, 10))
    def grow(self, sequence, pages):
        missing = max(0, pages - len(sequence.pages))
        before = self.held()
        try:
            sequence.table.ensure(pages * PAGE_TOKENS)
        except PagesExhausted:
            assert missing > NUM_PAGES - len(before)
            assert list(sequence.table.pages) == sequence.pages
            return
        fresh = list(sequence.table.pages[len(sequence.pages) :])
        assert len(fresh) == missing
        assert not before & set(fresh)
        sequence.pages += fresh
        if sequence not in self.live:
            self.live.append(sequence)

    @rule(sequence=sequences)
    def finish_pages(self, sequence):
        for page_hash, page in zip(HASHES[sequence.prompt], sequence.pages, strict=False):
            if not self.pool.is_hashed(page):
                self.cache.insert(page_hash, page)

    @rule(target=sequences, sequence=sequences, tokens=st.integers(0, 40))
    def fork(self, sequence, tokens):
        if tokens > sequence.table.capacity_tokens:
            with pytest.raises(InternalError):
                sequence.table.fork(tokens)
            return multiple()
        before = self.held()
        try:
            table, copies = sequence.table.fork(tokens)
        except PagesExhausted:
            assert len(before) == NUM_PAGES
            return multiple()
        full = tokens // PAGE_TOKENS
        assert list(table.pages[:full]) == sequence.pages[:full]
        assert [source for source, _ in copies] == sequence.pages[full : full + bool(tokens % PAGE_TOKENS)]
        assert not before & {destination for _, destination in copies}
        forked = Sequence(table, sequence.prompt)
        self.live.append(forked)
        return forked

    @rule(sequence=sequences)
    def end(self, sequence):
        sequence.table.free()
        sequence.pages = []
        self.live = [other for other in self.live if other is not sequence]

    @rule(target=leases, sequence=sequences, reader=readers)
    def grant(self, sequence, reader):
        if reader in self.gone:
            with pytest.raises(Cancelled):
                self.table.grant(sequence.pages, reader)
            return multiple()
        lease = self.table.grant(sequence.pages, reader)
        self.active[lease.id] = (lease, self.now + DURATION_S)
        return lease

    @rule(lease=leases)
    def renew(self, lease):
        alive = lease.id in self.active and self.active[lease.id][1] > self.now
        assert self.table.renew(lease.id) == alive
        if alive:
            self.active[lease.id] = (lease, self.now + DURATION_S)

    @rule(lease=leases)
    def abandon(self, lease):
        assert self.table.abandon(lease.id) == (lease.id in self.active)
        if self.active.pop(lease.id, None):
            self.quarantined[lease.id] = lease

    @rule(lease=consumes(leases))
    def release(self, lease):
        held = lease.id in self.active and self.active[lease.id][1] > self.now
        assert self.table.holds(lease.id, lease.generation) == held
        assert self.table.release(lease.id) == held
        assert not self.table.holds(lease.id, lease.generation)
        self.active.pop(lease.id, None)
        self.quarantined.pop(lease.id, None)

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds):
        self.now += seconds
        expired = {lease_id for lease_id, (_, deadline) in self.active.items() if deadline <= self.now}
        assert {lease.id for lease in self.table.expire()} == expired
        for lease_id in expired:
            self.quarantined[lease_id] = self.active.pop(lease_id)[0]

    @rule(reader=readers)
    def reader_goes(self, reader):
        mine = [lease.id for lease, _ in self.active.values() if lease.reader == reader]
        assert [lease.id for lease in self.table.reader_gone(reader)] == mine
        self.gone.add(reader)
        for leases in (self.active, self.quarantined):
            for lease_id in list(leases):
                entry = leases[lease_id]
                lease = entry if isinstance(entry, Lease) else entry[0]
                if lease.reader == reader:
                    del leases[lease_id]

    @rule(reader=readers)
    def reader_comes(self, reader):
        self.table.reader_joined(reader)
        self.gone.discard(reader)

    @rule(sequence=sequences)
    def read_into(self, sequence):
        self.pool.quarantine(sequence.pages)
        self.reads.append(list(sequence.pages))

    @rule()
    def read_settles(self):
        if self.reads:
            self.pool.settle(self.reads.pop(0))

    @rule()
    def clear(self):
        cached = self.pool.counts().cached
        assert self.cache.clear() == cached
        assert self.pool.counts().cached == 0

    @rule(page=st.integers(0, NUM_PAGES - 1))
    def misuse(self, page):
        if page not in self.held():
            before = self.pool.counts()
            for operation in (self.pool.release, self.pool.unlease, self.pool.settle):
                with pytest.raises(InternalError):
                    operation([page])
            assert self.pool.counts() == before

    @invariant()
    def nothing_is_wrong(self):
        self.pool.check_integrity()

    @invariant()
    def states_follow_from_who_holds_what(self):
        settling = {page for lease in self.quarantined.values() for page in lease.pages}
        settling |= {page for read in self.reads for page in read}
        leased = {page for lease, _ in self.active.values() for page in lease.pages} - settling
        used = {page for sequence in self.live for page in sequence.pages} - settling - leased
        counts = self.pool.counts()
        cached, free = counts.cached, NUM_PAGES - len(settling) - len(leased) - len(used) - counts.cached
        assert counts == PageCounts(free, len(used), cached, len(leased), len(settling))
        assert self.pool.available() == NUM_PAGES - len(self.held())

    @invariant()
    def a_matched_prefix_is_retained_and_given_back(self):
        for hashes in HASHES:
            before = self.pool.counts()
            self.pool.release(self.cache.match(hashes))
            assert self.pool.counts() == before

    def teardown(self):
        for sequence in self.live:
            sequence.table.free()
        for read in self.reads:
            self.pool.settle(read)
        for reader in READERS:
            self.table.reader_gone(reader)
        self.cache.clear()
        self.pool.check_integrity()
        assert self.pool.counts() == PageCounts(NUM_PAGES, 0, 0, 0, 0)


TestKvCacheTogether = KvCacheMachine.TestCase
TestKvCacheTogether.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
