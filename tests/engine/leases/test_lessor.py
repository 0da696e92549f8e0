"""What a lessor does with its leases, and when it says that peers may be reading."""

from __future__ import annotations

import pytest

from services.common.errors import Cancelled, NotFound
from services.engine.kv_cache.page_pool import PagePool
from services.engine.leases.lease_table import Lease, LeaseTable
from services.engine.leases.lessor import Lessor
from tests.support.manual_clock import ManualClock

LEASE_S = 5.0


class OnePageLessor(Lessor):
    """Lends the only page there is."""

    def __init__(self, pool: PagePool, clock: ManualClock, serving: list[bool]) -> None:
        super().__init__(LeaseTable(pool, LEASE_S, clock), serving.append)
        self._pages = pool.allocate(1)

    def lease(self, reader: str, key: int) -> Lease:
        lease = self._leases.grant(self._pages, reader, key)
        self._update_serving()
        return lease


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pool():
    pool = PagePool(2)
    yield pool
    pool.check_integrity()


@pytest.fixture
def serving() -> list[bool]:
    return []


@pytest.fixture
def lessor(pool, clock, serving) -> OnePageLessor:
    return OnePageLessor(pool, clock, serving)


def test_serving_begins_with_the_first_lease_and_ends_with_the_last(lessor, serving):
    first, second = lessor.lease("reader", 1), lessor.lease("other", 1)
    lessor.release(first.id)
    assert serving == [True]
    lessor.release(second.id)
    assert serving == [True, False]


def test_a_broken_stream_keeps_serving_until_the_reader_has_settled(lessor, pool, serving):
    lessor.abandon(lessor.lease("reader", 1).id)
    assert pool.counts().quarantined == 1
    assert serving == [True]
    lessor.settled("reader", [1])
    assert pool.counts().quarantined == 0
    assert serving == [True, False]


def test_an_expired_lease_keeps_serving_until_the_reader_has_settled(lessor, pool, clock, serving):
    lessor.lease("reader", 1)
    clock.now += LEASE_S
    lessor.expire()
    assert pool.counts().quarantined == 1
    assert serving == [True]
    lessor.settled("reader", [1])
    assert serving == [True, False]


def test_a_renewed_lease_lasts_its_full_time_again(lessor, pool, clock):
    lease = lessor.lease("reader", 1)
    clock.now += LEASE_S - 1
    lessor.renew(lease.id)
    clock.now += LEASE_S - 1
    lessor.expire()
    assert pool.counts().leased == 1


def test_a_lease_that_is_over_cannot_be_renewed(lessor):
    lease = lessor.lease("reader", 1)
    lessor.release(lease.id)
    with pytest.raises(NotFound, match="ran out"):
        lessor.renew(lease.id)


@pytest.mark.parametrize("end", ["expired", "abandoned", "settled", "gone"])
def test_a_release_of_a_lease_that_is_not_held_any_more_fails_and_frees_the_pages(
    lessor, pool, clock, serving, end
):
    lease = lessor.lease("reader", 1)
    if end == "expired":
        clock.now += LEASE_S
    elif end == "abandoned":
        lessor.abandon(lease.id)
    elif end == "settled":
        lessor.settled("reader", [1])
    else:
        lessor.reader_gone("reader")
    with pytest.raises(NotFound, match="was over before it was released"):
        lessor.release(lease.id)
    assert (pool.counts().leased, pool.counts().quarantined) == (0, 0)
    assert serving == [True, False]


def test_a_reader_that_is_gone_leaves_nothing_and_may_come_again(lessor, pool, serving):
    lessor.lease("reader", 1)
    lessor.abandon(lessor.lease("reader", 2).id)
    lessor.reader_gone("reader")
    assert (pool.counts().leased, pool.counts().quarantined) == (0, 0)
    assert serving == [True, False]
    with pytest.raises(Cancelled):
        lessor.lease("reader", 1)
    lessor.reader_joined("reader")
    lessor.lease("reader", 1)
    assert pool.counts().leased == 1


def test_one_readers_words_do_not_touch_anothers_leases(lessor, pool):
    lessor.lease("reader", 1)
    lessor.settled("other", [1])
    lessor.reader_gone("other")
    assert pool.counts().leased == 1


def test_releasing_abandoning_and_settling_may_come_late_and_twice(lessor, pool):
    lease = lessor.lease("reader", 1)
    lessor.release(lease.id)
    lessor.abandon(lease.id)
    with pytest.raises(NotFound):
        lessor.release(lease.id)
    lessor.settled("reader", [1, 1])
    lessor.reader_gone("reader")
    lessor.reader_gone("reader")
    assert (pool.counts().leased, pool.counts().quarantined) == (0, 0)
