"""Leases by the readers' own names."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import Cancelled, NotFound
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.lending import Lending
from tests.support.manual_clock import ManualClock

LEASE_S = 5.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pool(clock):
    rows = allocate_embedding_rows(4, 8, torch.float32)
    pool = EmbeddingPool(rows, hold_s=60.0, lease_s=LEASE_S, clock=clock)
    pool.store(b"a", (1, 2, 2), 1, pool.reserve(1))
    yield pool
    pool.check_integrity()


@pytest.fixture
def serving() -> list[bool]:
    return []


@pytest.fixture
def lending(pool, serving) -> Lending:
    return Lending(pool, serving.append)


def test_serving_begins_with_the_first_lease_and_ends_with_the_last(lending, serving):
    lending.lease("reader", 1, [b"a"])
    lending.lease("other", 1, [b"a"])
    lending.release("reader", 1)
    assert serving == [True]
    lending.release("other", 1)
    assert serving == [True, False]


def test_a_broken_stream_keeps_serving_until_the_reader_has_settled(lending, pool, serving):
    lending.lease("reader", 1, [b"a"])
    lending.abandon("reader", 1)
    assert pool.counts().quarantined == 1
    assert serving == [True]
    lending.settled("reader", [1])
    assert pool.counts().quarantined == 0
    assert serving == [True, False]


def test_an_expired_lease_keeps_serving_until_the_reader_has_settled(lending, pool, clock, serving):
    lending.lease("reader", 1, [b"a"])
    clock.now += LEASE_S
    lending.tick()
    assert pool.counts().quarantined == 1
    assert serving == [True]
    lending.settled("reader", [1])
    assert serving == [True, False]


def test_a_renewed_lease_lasts_its_full_time_again(lending, pool, clock):
    lending.lease("reader", 1, [b"a"])
    clock.now += LEASE_S - 1
    lending.renew("reader", 1)
    clock.now += LEASE_S - 1
    lending.tick()
    assert pool.counts().leased == 1
    lending.release("reader", 1)


def test_a_lease_that_is_over_cannot_be_renewed(lending):
    lending.lease("reader", 1, [b"a"])
    lending.release("reader", 1)
    with pytest.raises(NotFound, match="ran out"):
        lending.renew("reader", 1)


def test_a_reader_that_is_gone_leaves_nothing_and_may_come_again(lending, pool):
    lending.lease("reader", 1, [b"a"])
    lending.lease("reader", 2, [b"a"])
    lending.abandon("reader", 2)
    lending.reader_gone("reader")
    assert (pool.counts().leased, pool.counts().quarantined) == (0, 0)
    with pytest.raises(Cancelled):
        lending.lease("reader", 1, [b"a"])
    lending.reader_joined("reader")
    lending.lease("reader", 1, [b"a"])
    assert pool.counts().leased == 1
    lending.release("reader", 1)


def test_one_readers_words_do_not_touch_anothers_leases(lending, pool):
    lending.lease("reader", 1, [b"a"])
    lending.release("other", 1)
    lending.abandon("other", 1)
    lending.settled("other", [1])
    lending.reader_gone("other")
    assert pool.counts().leased == 1
    lending.release("reader", 1)


def test_releasing_abandoning_and_settling_may_come_late_and_twice(lending, pool):
    lending.lease("reader", 1, [b"a"])
    lending.release("reader", 1)
    lending.abandon("reader", 1)
    lending.release("reader", 1)
    lending.settled("reader", [1, 1])
    lending.reader_gone("reader")
    lending.reader_gone("reader")
    assert pool.counts().cached == 1
