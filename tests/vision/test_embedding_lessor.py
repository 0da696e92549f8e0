"""Leases of embeddings."""

from __future__ import annotations

import pytest

from services.common.errors import NotFound
from services.vision.embedding_lessor import EmbeddingLessor
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from tests.support.manual_clock import ManualClock

HOLD_S = 60.0
LEASE_S = 5.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pool(clock):
    rows = allocate_embedding_rows(4, 8)
    pool = EmbeddingPool(rows, HOLD_S, LEASE_S, clock=clock)
    pool.store(b"a", (1, 2, 2), 1, pool.reserve(1))
    yield pool
    pool.check_integrity()


@pytest.fixture
def serving() -> list[bool]:
    return []


@pytest.fixture
def lessor(pool, serving) -> EmbeddingLessor:
    return EmbeddingLessor(pool, serving.append)


def test_a_lent_embedding_is_pinned_until_the_reader_has_finished(lessor, pool, serving):
    lease, (embedding,) = lessor.lease("reader", 1, [b"a"])
    assert lease.pages == embedding.pages
    assert (pool.counts().leased, serving) == (1, [True])
    lessor.release(lease.id)
    assert (pool.counts().leased, serving) == (0, [True, False])


def test_an_embedding_that_is_not_there_is_not_lent(lessor, serving):
    with pytest.raises(NotFound):
        lessor.lease("reader", 1, [b"a", b"b"])
    assert serving == []


def test_a_tick_ends_holds_and_leases_whose_time_has_come(lessor, pool, clock, serving):
    lessor.lease("reader", 1, [b"a"])
    clock.now += HOLD_S
    lessor.tick()
    assert pool.counts().quarantined == 1
    assert serving == [True]
    lessor.settled("reader", [1])
    assert (pool.counts().cached, pool.counts().used, serving) == (1, 0, [True, False])
