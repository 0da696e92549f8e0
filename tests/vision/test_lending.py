"""Leases of embeddings."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import NotFound
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.lending import Lending
from tests.support.manual_clock import ManualClock

HOLD_S = 60.0
LEASE_S = 5.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pool(clock):
    rows = allocate_embedding_rows(4, 8, torch.float32)
    pool = EmbeddingPool(rows, HOLD_S, LEASE_S, clock=clock)
    pool.store(b"a", (1, 2, 2), 1, pool.reserve(1))
    yield pool
    pool.check_integrity()


@pytest.fixture
def serving() -> list[bool]:
    return []


@pytest.fixture
def lending(pool, serving) -> Lending:
    return Lending(pool, serving.append)


def test_a_lent_embedding_is_pinned_until_the_reader_has_finished(lending, pool, serving):
    lease, (embedding,) = lending.lease("reader", 1, [b"a"])
    assert lease.pages == embedding.pages
    assert (pool.counts().leased, serving) == (1, [True])
    lending.release(lease.id)
    assert (pool.counts().leased, serving) == (0, [True, False])


def test_an_embedding_that_is_not_there_is_not_lent(lending, serving):
    with pytest.raises(NotFound):
        lending.lease("reader", 1, [b"a", b"b"])
    assert serving == []


def test_a_tick_ends_holds_and_leases_whose_time_has_come(lending, pool, clock, serving):
    lending.lease("reader", 1, [b"a"])
    clock.now += HOLD_S
    lending.tick()
    assert pool.counts().quarantined == 1
    assert serving == [True]
    lending.settled("reader", [1])
    assert (pool.counts().cached, pool.counts().used, serving) == (1, 0, [True, False])
