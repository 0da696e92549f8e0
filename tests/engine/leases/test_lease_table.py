import pytest

from services.common.errors import Cancelled, InternalError
from services.engine.kv_cache.page_pool import PageCounts, PagePool
from services.engine.leases.lease_table import LeaseTable
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def pool() -> PagePool:
    return PagePool(8)


@pytest.fixture
def table(pool, clock) -> LeaseTable:
    return LeaseTable(pool, 10.0, clock)


def lease_of(pool, table, count, reader="reader", key=0):
    """A lease on pages that the request which made them has let go of."""
    pages = pool.allocate(count)
    lease = table.grant(pages, reader, key)
    pool.release(pages)
    return lease


def test_a_lease_says_whose_it_is_and_until_when(pool, table):
    lease = lease_of(pool, table, 2, "decode-1", 77)
    assert (lease.reader, lease.key, lease.deadline, lease.duration_s) == ("decode-1", 77, 110.0, 10.0)
    assert len(lease.pages) == 2
    assert lease.id > 0


def test_two_leases_on_one_page_differ_in_id_and_generation(pool, table):
    pages = pool.allocate(1)
    first, second = table.grant(pages, "a"), table.grant(pages, "b")
    assert first.id != second.id
    assert second.generation > first.generation


def test_leased_pages_stay_after_their_request_has_ended(pool, table):
    lease = lease_of(pool, table, 3)
    assert pool.counts() == PageCounts(free=5, used=0, cached=0, leased=3, quarantined=0)
    assert table.active() == 1
    assert table.release(lease.id)
    assert pool.counts().free == 8
    assert table.active() == 0


def test_the_last_of_two_leases_on_a_page_frees_it(pool, table):
    pages = pool.allocate(1)
    first, second = table.grant(pages, "a"), table.grant(pages, "b")
    pool.release(pages)
    table.release(first.id)
    assert pool.counts().leased == 1
    table.release(second.id)
    assert pool.counts().free == 8


@pytest.mark.parametrize("operation", ["release", "renew", "abandon"])
def test_an_operation_on_a_lease_that_is_over_does_nothing(pool, table, operation):
    lease = lease_of(pool, table, 2)
    table.release(lease.id)
    assert not getattr(table, operation)(lease.id)
    assert not getattr(table, operation)(999)
    assert table.settled([lease.id]) == 0
    assert pool.counts().free == 8


def test_granting_free_pages_is_a_defect_and_changes_nothing(pool, table):
    with pytest.raises(InternalError):
        table.grant([3], "reader")
    assert table.active() == 0
    pool.check_integrity()


def test_an_expired_lease_is_quarantined_until_its_reader_has_settled(pool, table, clock):
    lease = lease_of(pool, table, 2)
    clock.now = 109.9
    assert table.expire() == []
    clock.now = 110.0
    assert table.expire() == [lease]
    assert pool.counts() == PageCounts(free=6, used=0, cached=0, leased=0, quarantined=2)
    assert (table.active(), table.quarantined(), table.quarantined_pages()) == (0, 1, 2)
    assert table.expire() == []
    assert table.settled([lease.id]) == 1
    assert (table.quarantined(), table.quarantined_pages(), pool.counts().free) == (0, 0, 8)


def test_expiry_takes_the_time_it_is_given(pool, table):
    lease = lease_of(pool, table, 1)
    assert table.expire(109.0) == []
    assert table.expire(111.0) == [lease]


def test_a_renewed_lease_lasts_its_full_duration_again(pool, table, clock):
    early, late = lease_of(pool, table, 1), lease_of(pool, table, 1)
    clock.now = 108.0
    assert table.renew(early.id)
    clock.now = 110.0
    assert [lease.id for lease in table.expire()] == [late.id]
    clock.now = 118.0
    (expired,) = table.expire()
    assert (expired.id, expired.deadline) == (early.id, 118.0)


def test_a_lease_whose_time_ran_out_cannot_be_renewed_even_before_it_is_swept(pool, table, clock):
    lease = lease_of(pool, table, 1)
    clock.now = 110.0
    assert not table.renew(lease.id)
    table.expire()
    assert not table.renew(lease.id)


def test_a_broken_stream_quarantines_at_once(pool, table):
    lease = lease_of(pool, table, 2)
    assert table.abandon(lease.id)
    assert not table.abandon(lease.id)
    assert pool.counts().quarantined == 2
    assert pool.available() == 6


def test_pages_on_their_way_to_quarantine_are_never_free(pool, table, monkeypatch):
    lease = lease_of(pool, table, 2)
    least = []
    shift = pool._shift

    def watch(pages, counts, step):
        shift(pages, counts, step)
        least.append(pool.available())

    monkeypatch.setattr(pool, "_shift", watch)
    table.abandon(lease.id)
    assert set(least) == {6}


def test_a_late_release_of_an_expired_lease_settles_it(pool, table):
    lease = lease_of(pool, table, 2)
    table.expire(1000.0)
    assert not table.release(lease.id), "it was not held any more"
    assert pool.counts().free == 8


def test_a_lease_is_held_from_its_grant_until_it_is_over_in_whatever_way(pool, table, clock):
    for end in (table.release, table.abandon, lambda lease_id: table.settled([lease_id])):
        lease = lease_of(pool, table, 1)
        assert table.holds(lease.id, lease.generation)
        end(lease.id)
        assert not table.holds(lease.id, lease.generation)
    lease = lease_of(pool, table, 1)
    assert not table.holds(lease.id, lease.generation + 1)
    assert not table.holds(lease.id + 1, lease.generation)
    clock.now = 110.0
    assert not table.holds(lease.id, lease.generation), "before it is swept, too"
    assert not table.release(lease.id)
    assert pool.available() == 7, "one is left in quarantine"


@pytest.mark.parametrize("operation", ["release", "expire", "settled", "reader_gone"])
def test_a_lease_has_left_the_table_before_its_pages_can_be_allocated(pool, table, monkeypatch, operation):
    lease = lease_of(pool, table, 2)
    held = []
    shift = pool._shift

    def watch(pages, counts, step):
        held.append(table.holds(lease.id, lease.generation))
        shift(pages, counts, step)

    monkeypatch.setattr(pool, "_shift", watch)
    arguments = {"release": lease.id, "expire": 1000.0, "settled": [lease.id], "reader_gone": "reader"}
    getattr(table, operation)(arguments[operation])
    assert held
    assert not any(held)


def test_a_lease_that_is_settled_before_its_stream_broke_is_over(pool, table):
    lease = lease_of(pool, table, 2)
    assert table.settled([lease.id, lease.id]) == 1
    assert not table.abandon(lease.id)
    assert pool.counts().free == 8


def test_a_page_shared_by_two_quarantined_leases_counts_once_and_waits_for_both(pool, table):
    pages = pool.allocate(2)
    leases = [table.grant(pages, reader) for reader in ("a", "b")]
    pool.release(pages)
    table.expire(1000.0)
    assert table.quarantined_pages() == 2
    table.settled([leases[0].id])
    assert (table.quarantined_pages(), pool.counts().quarantined) == (2, 2)
    table.settled([leases[1].id])
    assert pool.counts().free == 8


def test_a_reader_settles_by_its_own_names(pool, table):
    lease_of(pool, table, 1, "a", 5)
    lease_of(pool, table, 1, "b", 5)
    table.expire(1000.0)
    assert table.settled_keys("a", [5]) == 1
    assert pool.counts().quarantined == 1
    assert table.settled_keys("b", [5]) == 1
    assert pool.counts().free == 8


def test_a_request_that_arrives_after_its_lease_was_settled_is_refused(pool, table):
    assert table.settled_keys("a", [5]) == 0
    pages = pool.allocate(1)
    assert table.refuses("a", 5)
    with pytest.raises(Cancelled):
        table.grant(pages, "a", 5)
    assert pool.counts().leased == 0
    assert not table.refuses("a", 6)
    assert not table.refuses("b", 5)


def test_the_memory_of_early_settlements_is_bounded(table):
    table.settled_keys("a", range(1, 5001))
    assert not table.refuses("a", 1)
    assert table.refuses("a", 5000)
    assert sum(table.refuses("a", key) for key in range(1, 5001)) == 4096


def test_a_key_names_one_lease(pool, table):
    lease = lease_of(pool, table, 1, "a", 5)
    pages = pool.allocate(1)
    with pytest.raises(InternalError, match="twice"):
        table.grant(pages, "a", 5)
    assert pool.counts() == PageCounts(free=6, used=1, cached=0, leased=1, quarantined=0)
    table.release(lease.id)


def test_a_reader_that_is_gone_frees_all_it_held_and_nothing_else(pool, table):
    broken = lease_of(pool, table, 1, "a")
    active = lease_of(pool, table, 2, "a")
    lease_of(pool, table, 1, "b")
    table.abandon(broken.id)
    assert table.reader_gone("a") == [active]
    assert pool.counts() == PageCounts(free=7, used=0, cached=0, leased=1, quarantined=0)
    assert table.reader_gone("a") == []


def test_a_reader_that_is_gone_gets_no_lease_that_nobody_could_settle(pool, table):
    table.reader_gone("a")
    pages = pool.allocate(1)
    with pytest.raises(Cancelled):
        table.grant(pages, "a")
    table.reader_joined("a")
    table.grant(pages, "a")
    assert table.active() == 1


def test_the_memory_of_gone_readers_is_bounded(table):
    for number in range(2000):
        table.settled_keys(f"reader-{number}", [1])
        table.reader_gone(f"reader-{number}")
        table.settled_keys(f"reader-{number}", [2])
    assert (len(table._gone), len(table._settled_early)) == (1024, 0)


def test_nothing_is_remembered_of_leases_that_are_over(pool, table):
    for key in range(1, 50):
        table.release(lease_of(pool, table, 1, f"reader-{key % 3}", key).id)
    assert (table._by_reader, table._by_key) == ({}, {})


def test_the_pool_reports_leases_it_does_not_count(pool, table):
    lease = lease_of(pool, table, 1)
    pool.unlease(lease.pages)
    with pytest.raises(InternalError, match="in 1 leases, the pool counts 0"):
        pool.check_integrity()


def test_the_pool_reports_quarantines_it_does_not_count(pool, table):
    lease = lease_of(pool, table, 1)
    table.abandon(lease.id)
    pool.settle(lease.pages)
    with pytest.raises(InternalError, match="in 1 quarantined leases, the pool counts 0"):
        pool.check_integrity()


def test_the_pool_reports_books_of_readers_that_differ(pool, table):
    lease_of(pool, table, 1)
    table._by_reader.clear()
    table._quarantined_pages[3] = 1
    with pytest.raises(InternalError, match="quarantined lease pages is wrong; the readers' leases"):
        pool.check_integrity()
