import pytest

from services.common.errors import InternalError
from services.engine.kv_cache.page_pool import PagePool
from services.engine.kv_cache.prefix_cache import CacheStats, PrefixCache, Tail


@pytest.fixture
def pool() -> PagePool:
    return PagePool(8)


@pytest.fixture
def cache(pool) -> PrefixCache:
    return PrefixCache(pool)


def finish(pool, cache, hashes) -> list[int]:
    """A request that computed pages with these hashes and has ended."""
    pages = pool.allocate(len(hashes))
    for page_hash, page in zip(hashes, pages, strict=True):
        assert cache.insert(page_hash, page)
    pool.release(pages)
    return pages


def test_a_match_is_the_longest_prefix_that_is_here(pool, cache):
    pages = finish(pool, cache, [b"a", b"b", b"c"])
    assert cache.match([b"a", b"b", b"x", b"c"]) == pages[:2]
    assert cache.match([b"x", b"a"]) == []


def test_pages_that_are_found_are_neither_held_nor_counted_as_hits(pool, cache):
    pages = finish(pool, cache, [b"a", b"b"])
    assert cache.find([b"a", b"b", b"x"]) == pages
    assert cache.find([b"x"]) == []
    assert (pool.counts().cached, cache.stats.queried_pages, cache.stats.hit_pages) == (2, 0, 0)


def test_matched_pages_are_held_for_the_caller(pool, cache):
    finish(pool, cache, [b"a", b"b"])
    pages = cache.match([b"a", b"b"])
    assert pool.counts().used == 2
    pool.allocate(6)
    pool.release(pages)
    assert cache.match([b"a", b"b"]) == pages
    pool.check_integrity()


def test_a_page_can_be_shared_while_its_maker_still_runs(pool, cache):
    pages = pool.allocate(2)
    cache.insert(b"a", pages[0])
    assert cache.match([b"a", b"b"]) == pages[:1]
    assert pool.references(pages[0]) == 2


def test_an_evicted_page_is_not_found_any_more(pool, cache):
    finish(pool, cache, [b"a", b"b"])
    pool.allocate(7)
    assert len(cache.match([b"a", b"b"])) == 1
    assert len(cache) == 1
    pool.check_integrity()


def test_the_first_page_of_a_hash_stays_and_the_second_becomes_free(pool, cache):
    (first,) = finish(pool, cache, [b"a"])
    (second,) = pool.allocate(1)
    assert not cache.insert(b"a", second)
    pool.release([second])
    assert cache.match([b"a"]) == [first]
    assert pool.counts().free == 7
    pool.check_integrity()


def test_inserting_twice_is_harmless(pool, cache):
    (page,) = pool.allocate(1)
    assert cache.insert(b"a", page)
    assert cache.insert(b"a", page)
    assert cache.stats.inserted_pages == 1


def test_a_page_nobody_holds_cannot_be_inserted(pool, cache):
    with pytest.raises(InternalError):
        cache.insert(b"a", 3)
    assert cache.match([b"a"]) == []
    pool.check_integrity()


def test_a_page_cannot_have_two_hashes(pool, cache):
    (page,) = pool.allocate(1)
    cache.insert(b"a", page)
    with pytest.raises(InternalError):
        cache.insert(b"b", page)
    assert cache.match([b"b"]) == []
    pool.check_integrity()


def test_clearing_forgets_only_what_nobody_holds(pool, cache):
    pages = finish(pool, cache, [b"a", b"b", b"c"])
    cache.match([b"a"])
    pool.lease(pages[1:2])
    assert cache.clear() == 1
    assert cache.match([b"a", b"b", b"c"]) == pages[:2]
    pool.check_integrity()


def test_hits_and_evictions_are_counted(pool, cache):
    finish(pool, cache, [b"a", b"b"])
    cache.match([b"a", b"b", b"c"])
    cache.match([b"x"])
    pool.release(cache.match([b"a"]))
    pool.release([0, 1])
    cache.clear()
    assert cache.stats == CacheStats(queried_pages=5, hit_pages=3, inserted_pages=2, evicted_pages=2)


def test_the_pool_reports_a_hash_that_names_the_wrong_page(pool, cache):
    finish(pool, cache, [b"a", b"b"])
    cache._page_of[b"a"] = cache._page_of[b"b"]
    with pytest.raises(InternalError, match="do not name each other"):
        pool.check_integrity()


def test_the_pool_reports_a_hash_that_only_one_side_knows(pool, cache):
    (page,) = finish(pool, cache, [b"a"])
    del cache._hash_of[page]
    with pytest.raises(InternalError, match=r"1 hashes name 0 pages.*only one of pool and cache"):
        pool.check_integrity()


def end_in(pool, cache, parent, token_ids):
    """A sequence that has ended in the middle of a page."""
    (page,) = pool.allocate(1)
    cache.insert_tail(parent, Tail(page, tuple(token_ids)))
    pool.release([page])
    return page


def test_a_tail_is_cached_like_a_whole_page_and_found_by_what_it_goes_on_from(pool, cache):
    page = end_in(pool, cache, b"a", [1, 2, 3])
    assert cache.tail(b"a").page == page
    assert cache.tail(b"b") is None
    assert (pool.counts().cached, pool.counts().free) == (1, 7)
    pool.check_integrity()


def test_a_tail_takes_the_place_of_the_one_before_whose_page_is_free(pool, cache):
    end_in(pool, cache, b"a", [1])
    second = end_in(pool, cache, b"a", [2])
    assert cache.tail(b"a").page == second
    assert (pool.counts().cached, pool.counts().free) == (1, 7)
    pool.check_integrity()


def test_a_tail_that_is_replaced_while_somebody_holds_it_is_free_when_they_let_go(pool, cache):
    first = end_in(pool, cache, b"a", [1])
    pool.retain([first])
    end_in(pool, cache, b"a", [2])
    assert pool.counts().used == 1
    pool.release([first])
    assert (pool.counts().cached, pool.counts().free) == (1, 7)
    pool.check_integrity()


def test_an_evicted_tail_is_not_found_and_nobody_hears_of_it(pool, cache):
    end_in(pool, cache, b"a", [1])
    pool.allocate(8)
    assert cache.tail(b"a") is None
    changes, _ = cache.journal.since(None)
    assert not changes.added
    assert not changes.removed
    pool.check_integrity()


@pytest.mark.parametrize(
    ("other", "common"), [([1, 2, 3], 3), ([1, 2, 4], 2), ([4], 0), ([1, 2, 3, 4], 3), ([], 0)]
)
def test_a_tail_is_as_good_as_its_first_tokens_that_are_the_same(other, common):
    assert Tail(0, (1, 2, 3)).common(other) == common
