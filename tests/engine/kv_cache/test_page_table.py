import pytest

from services.common.errors import InternalError, PagesExhausted
from services.engine.kv_cache.page_pool import PagePool
from services.engine.kv_cache.page_table import PageTable


@pytest.fixture
def pool() -> PagePool:
    return PagePool(8)


def table_of(pool: PagePool, num_tokens: int) -> PageTable:
    table = PageTable(pool)
    table.ensure(num_tokens)
    return table


def test_a_table_grows_by_whole_pages(pool):
    table = PageTable(pool)
    sizes = []
    for num_tokens in (0, 1, 64, 65, 300):
        table.ensure(num_tokens)
        sizes.append((len(table), table.capacity_tokens))
    assert sizes == [(0, 0), (1, 64), (1, 64), (2, 128), (5, 320)]


def test_a_table_never_shrinks_by_ensuring_less(pool):
    table = table_of(pool, 200)
    table.ensure(1)
    assert len(table) == 4


def test_growing_beyond_the_pool_changes_nothing(pool):
    table = table_of(pool, 100)
    with pytest.raises(PagesExhausted):
        table.ensure(64 * 9)
    assert len(table) == 2
    assert pool.counts().used == 2


def test_adopted_pages_come_first_and_are_freed_with_the_rest(pool):
    found = pool.allocate(2)
    table = PageTable(pool)
    table.adopt(found)
    table.ensure(130)
    assert list(table.pages[:2]) == found
    assert len(table) == 3
    table.free()
    assert pool.counts().free == 8


def test_freeing_is_idempotent_and_leaves_an_empty_table_that_can_be_used_again(pool):
    table = table_of(pool, 200)
    table.free()
    table.free()
    assert (len(table), table.capacity_tokens, pool.counts().free) == (0, 0, 8)
    table.ensure(65)
    assert pool.counts().used == 2


def test_pages_are_one_growing_view_until_the_table_is_freed(pool):
    table = table_of(pool, 64)
    before = table.pages
    table.ensure(65)
    assert table.pages is before
    assert len(before) == 2
    table.free()
    table.ensure(1)
    assert table.pages is not before


def test_a_fork_shares_full_pages_and_copies_the_partial_one(pool):
    table = table_of(pool, 150)
    fork, copies = table.fork(150)
    assert list(fork.pages[:2]) == list(table.pages[:2])
    assert copies == [(table.pages[2], fork.pages[2])]
    assert fork.pages[2] != table.pages[2]
    assert pool.counts().used == 4


def test_a_fork_at_a_page_border_copies_nothing(pool):
    table = table_of(pool, 200)
    fork, copies = table.fork(128)
    assert copies == []
    assert list(fork.pages) == list(table.pages[:2])


def test_forks_die_in_any_order(pool):
    table = table_of(pool, 150)
    forks = [table.fork(150)[0] for _ in range(3)]
    table.free()
    forks[1].ensure(193)
    assert pool.counts().used == 6
    for fork in (forks[2], forks[0], forks[1]):
        fork.free()
    assert pool.counts().free == 8
    pool.check_integrity()


def test_a_fork_that_finds_no_page_changes_nothing(pool):
    table = table_of(pool, 64 * 7 + 1)
    with pytest.raises(PagesExhausted):
        table.fork(64 * 7 + 1)
    assert [pool.references(page) for page in table.pages] == [1] * 8
    pool.check_integrity()


def test_a_fork_of_more_tokens_than_fit_is_a_defect(pool):
    with pytest.raises(InternalError, match="cannot fork 65"):
        table_of(pool, 64).fork(65)
    assert pool.counts().used == 1


def test_page_size_is_a_parameter(pool):
    table = PageTable(pool, page_tokens=16)
    table.ensure(17)
    assert table.capacity_tokens == 32
