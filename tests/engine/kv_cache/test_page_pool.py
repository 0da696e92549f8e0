import sys
from collections.abc import Callable

import pytest

from services.common.errors import InternalError, Overloaded, PagesExhausted
from services.engine.kv_cache.page_pool import PageCounts, PagePool, PageState


@pytest.fixture
def pool() -> PagePool:
    return PagePool(8)


def cache_pages(pool: PagePool, count: int) -> list[int]:
    """Pages that nobody holds but that carry a hash, as a prefix cache leaves them."""
    pages = pool.allocate(count)
    for page in pages:
        pool.mark_hashed(page)
    pool.release(pages)
    return pages


def test_a_new_pool_is_all_free(pool):
    assert pool.counts() == PageCounts(free=8, used=0, cached=0, leased=0, quarantined=0)
    assert pool.counts().total == 8
    pool.check_integrity()


def test_allocated_pages_are_distinct_and_used(pool):
    pages = pool.allocate(3) + pool.allocate(5)
    assert sorted(pages) == list(range(8))
    assert pool.counts() == PageCounts(free=0, used=8, cached=0, leased=0, quarantined=0)


def test_allocating_nothing_gives_nothing(pool):
    assert pool.allocate(0) == []
    assert pool.counts().free == 8


def test_a_released_page_is_allocated_again(pool):
    pages = pool.allocate(8)
    pool.release(pages[3:4])
    assert pool.allocate(1) == pages[3:4]


def test_an_exhausted_pool_refuses_and_evicts_nothing(pool):
    evicted = []
    pool.attach_cache(evicted.append)
    cache_pages(pool, 2)
    pool.allocate(5)
    with pytest.raises(PagesExhausted, match="4 pages wanted, 3 of 8") as caught:
        pool.allocate(4)
    assert isinstance(caught.value, Overloaded)
    assert pool.counts() == PageCounts(free=1, used=5, cached=2, leased=0, quarantined=0)
    assert evicted == []


def test_a_shared_page_is_free_only_after_its_last_release(pool):
    pages = pool.allocate(2)
    pool.retain(pages)
    pool.release(pages)
    assert pool.counts().used == 2
    pool.release(pages)
    assert pool.counts().free == 8


def test_a_hashed_page_becomes_cached_and_stays_available(pool):
    cache_pages(pool, 3)
    assert pool.counts() == PageCounts(free=5, used=0, cached=3, leased=0, quarantined=0)
    assert pool.available() == 8


def test_a_cached_page_can_be_held_again(pool):
    (page,) = cache_pages(pool, 1)
    pool.retain([page])
    assert pool.state(page) is PageState.USED
    assert pool.is_hashed(page)


def test_free_pages_go_before_cached_ones(pool):
    evicted = []
    pool.attach_cache(evicted.append)
    cached = cache_pages(pool, 3)
    pages = pool.allocate(5)
    assert not set(pages) & set(cached)
    assert evicted == []


def test_the_page_let_go_of_longest_ago_is_evicted_first(pool):
    evicted = []
    pool.attach_cache(evicted.append)
    first, second, third = (cache_pages(pool, 1)[0] for _ in range(3))
    pool.retain([first])
    pool.release([first])
    pool.allocate(7)
    assert evicted == [second, third]
    pool.allocate(1)
    assert evicted == [second, third, first]


def test_a_chain_loses_its_tail_before_its_parents(pool):
    evicted = []
    pool.attach_cache(evicted.append)
    chain = cache_pages(pool, 4)
    pool.allocate(8)
    assert evicted == chain[::-1]


def test_an_evicted_page_has_lost_its_hash(pool):
    (page,) = cache_pages(pool, 1)
    assert page in pool.allocate(8)
    assert not pool.is_hashed(page)
    pool.release([page])
    assert pool.state(page) is PageState.FREE


def test_dropping_the_cache_frees_cached_pages_only(pool):
    evicted = []
    pool.attach_cache(evicted.append)
    cached = cache_pages(pool, 3)
    pool.retain(cached[:1])
    assert pool.drop_cached() == 2
    assert sorted(evicted) == sorted(cached[1:])
    assert pool.counts() == PageCounts(free=7, used=1, cached=0, leased=0, quarantined=0)
    assert pool.drop_cached() == 0


@pytest.mark.parametrize("keep", ["lease", "quarantine"])
def test_a_released_page_is_not_reused_while_a_peer_may_touch_it(pool, keep):
    pages = pool.allocate(8)
    getattr(pool, keep)(pages[:2])
    pool.release(pages)
    assert pool.available() == 6
    assert not set(pool.allocate(6)) & set(pages[:2])
    getattr(pool, {"lease": "unlease", "quarantine": "settle"}[keep])(pages[:2])
    assert pool.available() == 2


def test_leases_and_quarantines_are_counted(pool):
    (page,) = pool.allocate(1)
    pool.lease([page])
    pool.lease([page])
    pool.quarantine([page])
    pool.quarantine([page])
    assert (pool.references(page), pool.leases(page), pool.quarantines(page)) == (1, 2, 2)
    pool.release([page])
    pool.unlease([page, page])
    pool.settle([page])
    assert pool.state(page) is PageState.QUARANTINED
    pool.settle([page])
    assert pool.state(page) is PageState.FREE


def test_a_page_counts_in_the_first_state_that_holds(pool):
    (page,) = pool.allocate(1)
    pool.mark_hashed(page)
    seen = [pool.state(page)]
    pool.lease([page])
    seen.append(pool.state(page))
    pool.quarantine([page])
    seen.append(pool.state(page))
    pool.release([page])
    pool.unlease([page])
    seen.append(pool.state(page))
    pool.settle([page])
    seen.append(pool.state(page))
    used, leased, quarantined = PageState.USED, PageState.LEASED, PageState.QUARANTINED
    assert seen == [used, leased, quarantined, quarantined, PageState.CACHED]
    pool.check_integrity()


def test_a_cached_page_can_be_leased_and_is_then_not_evicted(pool):
    pages = cache_pages(pool, 2)
    pool.lease(pages)
    assert pool.counts().leased == 2
    assert pool.available() == 6
    pool.unlease(pages)
    assert pool.counts().cached == 2


@pytest.mark.parametrize("operation", ["release", "retain", "lease", "unlease", "quarantine", "settle"])
@pytest.mark.parametrize("page", [7, 8, -1])
def test_an_operation_on_a_free_or_unknown_page_changes_nothing(pool, operation, page):
    pages = pool.allocate(3)
    pool.lease(pages)
    pool.quarantine(pages)
    before = pool.counts()
    with pytest.raises(InternalError, match=rf"cannot {operation} pages \[{page}\]"):
        getattr(pool, operation)([*pages, page])
    assert pool.counts() == before
    assert [(pool.references(p), pool.leases(p), pool.quarantines(p)) for p in pages] == [(1, 1, 1)] * 3
    pool.check_integrity()


@pytest.mark.parametrize(("operation", "undo"), [("lease", "unlease"), ("quarantine", "settle")])
def test_undoing_more_often_than_doing_is_a_defect(pool, operation, undo):
    pages = pool.allocate(1)
    getattr(pool, operation)(pages)
    with pytest.raises(InternalError):
        getattr(pool, undo)(pages * 2)
    getattr(pool, undo)(pages)
    with pytest.raises(InternalError):
        getattr(pool, undo)(pages)


def test_a_page_named_twice_in_one_release_needs_two_references(pool):
    (page,) = pool.allocate(1)
    with pytest.raises(InternalError):
        pool.release([page, page])
    pool.retain([page])
    pool.release([page, page])
    assert pool.counts().free == 8


def test_a_page_that_only_a_peer_holds_cannot_be_retained(pool):
    pages = pool.allocate(1)
    pool.lease(pages)
    pool.release(pages)
    with pytest.raises(InternalError, match="leased, references 0, leases 1"):
        pool.retain(pages)


def test_only_a_held_page_without_a_hash_can_be_hashed(pool):
    (page,) = pool.allocate(1)
    pool.mark_hashed(page)
    with pytest.raises(InternalError):
        pool.mark_hashed(page)
    with pytest.raises(InternalError):
        pool.mark_hashed(7)


def test_a_pool_has_one_cache(pool):
    pool.attach_cache(lambda page: None)
    with pytest.raises(InternalError):
        pool.attach_cache(lambda page: None)


def test_nonsense_sizes_are_refused(pool):
    with pytest.raises(InternalError):
        PagePool(0)
    with pytest.raises(InternalError):
        pool.allocate(-1)


def test_the_integrity_check_lists_everything_that_is_wrong(pool):
    pages = pool.allocate(4)
    pool.mark_hashed(pages[0])
    pool.release(pages[:1])
    pool.check_integrity()
    pool._free.append(pages[1])
    pool._leases[pages[2]] = -1
    pool._cached[pages[3]] = None
    pool._tally[PageState.USED] += 1
    pool.add_audit(lambda: ["the auditor objects"])
    with pytest.raises(InternalError) as caught:
        pool.check_integrity()
    for finding in (
        "free list differs",
        "negative count",
        "eviction list differs",
        "tallied",
        "sum to 9 of 8",
        "the auditor objects",
    ):
        assert finding in caught.value.message


def test_the_integrity_check_sees_a_page_twice_in_the_free_list(pool):
    pool._free.append(7)
    with pytest.raises(InternalError, match="twice"):
        pool.check_integrity()


def lines_run(action: Callable[[], object]) -> int:
    """How many lines of Python an action executes."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines


def test_an_operation_does_work_for_the_pages_it_touches_whatever_the_size_of_the_pool():
    work = []
    for num_pages in (100, 10_000):
        pool = PagePool(num_pages)
        pages = cache_pages(pool, num_pages)

        def touch_four(pool=pool, pages=pages):
            pool.retain(pages[:4])
            pool.release(pages[:4])
            pool.release(pool.allocate(4))

        work.append(lines_run(touch_four))
        pool.check_integrity()
    assert work[0] == work[1] > 0
