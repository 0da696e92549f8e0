"""Holding, caching, evicting and leasing embeddings."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import Cancelled, InvalidRequest, NotFound, PagesExhausted
from services.vision.embedding_pool import (
    PAGE_ROWS,
    EmbeddingPool,
    StoredEmbedding,
    allocate_embedding_rows,
    write_embedding,
)
from tests.support.manual_clock import ManualClock

HOLD_S = 10.0
LEASE_S = 5.0
WIDTH = 8


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def rows() -> torch.Tensor:
    return allocate_embedding_rows(6, WIDTH)


@pytest.fixture
def pool(rows, clock):
    pool = EmbeddingPool(rows, HOLD_S, LEASE_S, clock)
    yield pool
    pool.check_integrity()


def put(pool: EmbeddingPool, name: str, num_tokens: int) -> StoredEmbedding:
    return pool.store(name.encode(), (1, 2, 2 * num_tokens), num_tokens, pool.reserve(num_tokens))


def test_written_rows_are_in_their_pages_and_the_rest_is_zero(pool, rows):
    rows.fill_(7.0)
    values = torch.randn(70, WIDTH)
    pages = pool.reserve(70)
    assert len(pages) == 2
    write_embedding(rows, pages, values)
    pool.discard(pages)
    stored = rows[pages].flatten(0, 1)
    assert torch.equal(stored[:70], values)
    assert (stored[70:] == 0).all()


def test_a_stored_embedding_is_found_by_its_hash(pool):
    embedding = put(pool, "a", 3)
    assert pool.find(b"a") is embedding
    assert pool.find(b"b") is None


def test_a_held_embedding_is_never_evicted(pool, clock):
    put(pool, "a", 4 * PAGE_ROWS)
    clock.now += HOLD_S - 1
    with pytest.raises(PagesExhausted):
        pool.reserve(3 * PAGE_ROWS)
    assert pool.find(b"a") is not None


def test_where_room_is_short_a_hold_ends_when_all_who_asked_for_it_have_leased(pool):
    put(pool, "a", 3 * PAGE_ROWS)
    put(pool, "b", 3 * PAGE_ROWS)
    pool.find(b"b")  # a second request with the same picture
    for key, name in enumerate((b"a", b"b")):
        lease, _ = pool.lease([name], "reader", key)
        pool.leases.release(lease.id)
    pool.discard(pool.reserve(3 * PAGE_ROWS))
    assert pool.find(b"a") is None
    assert pool.find(b"b") is not None
    with pytest.raises(PagesExhausted):
        pool.reserve(4 * PAGE_ROWS)


def test_an_embedding_in_the_hands_of_a_reader_outlives_the_end_of_its_hold(pool):
    put(pool, "a", 3 * PAGE_ROWS)
    pool.lease([b"a"], "reader", 1)
    with pytest.raises(PagesExhausted):
        pool.reserve(4 * PAGE_ROWS)
    assert pool.find(b"a") is not None


def test_room_is_made_by_dropping_the_least_recently_found(pool, clock):
    put(pool, "a", 2 * PAGE_ROWS)
    put(pool, "b", 2 * PAGE_ROWS)
    clock.now += 1
    pool.find(b"a")
    clock.now += HOLD_S + 1
    put(pool, "c", 3 * PAGE_ROWS)
    assert pool.find(b"b") is None
    assert pool.find(b"a") is not None


def test_an_embedding_that_lost_one_page_is_gone_and_can_be_stored_again(pool, clock):
    put(pool, "a", 4 * PAGE_ROWS)
    clock.now += HOLD_S + 1
    put(pool, "b", 3 * PAGE_ROWS)
    assert pool.find(b"a") is None
    clock.now += HOLD_S + 1
    again = put(pool, "a", 4 * PAGE_ROWS)
    assert pool.find(b"a") is again


def test_finding_an_embedding_holds_it_anew(pool, clock):
    put(pool, "a", 6 * PAGE_ROWS)
    clock.now += HOLD_S - 1
    pool.find(b"a")
    clock.now += HOLD_S - 1
    with pytest.raises(PagesExhausted):
        pool.reserve(1)
    clock.now += 2
    pool.discard(pool.reserve(1))


def test_a_leased_embedding_outlives_its_hold(pool, clock):
    put(pool, "a", 6 * PAGE_ROWS)
    clock.now += HOLD_S - 1
    lease, (embedding,) = pool.lease([b"a"], "reader", 1)
    clock.now += 2
    assert lease.pages == embedding.pages
    with pytest.raises(PagesExhausted):
        pool.reserve(1)
    pool.leases.release(lease.id)
    pool.discard(pool.reserve(1))


def test_an_expired_lease_keeps_its_pages_until_the_reader_has_settled(pool, clock):
    put(pool, "a", 6 * PAGE_ROWS)
    lease, _ = pool.lease([b"a"], "reader", 1)
    clock.now += HOLD_S + LEASE_S
    assert [expired.id for expired in pool.tick()] == [lease.id]
    assert pool.counts().quarantined == 6
    with pytest.raises(PagesExhausted):
        pool.reserve(1)
    pool.leases.settled_keys("reader", [1])
    pool.discard(pool.reserve(1))


def test_a_quarantined_embedding_can_still_be_leased_by_another(pool):
    put(pool, "a", 64)
    lease, _ = pool.lease([b"a"], "reader", 1)
    pool.leases.abandon(lease.id)
    other, _ = pool.lease([b"a"], "other", 1)
    pool.leases.release(other.id)
    assert pool.counts().quarantined == 1
    pool.leases.reader_gone("reader")


def test_a_lease_of_several_embeddings_has_their_pages_in_order(pool):
    first, second = put(pool, "a", 65), put(pool, "b", 1)
    lease, embeddings = pool.lease([b"b", b"a"], "reader", 1)
    assert embeddings == (second, first)
    assert lease.pages == second.pages + first.pages
    pool.leases.release(lease.id)


def test_a_lease_with_one_unknown_hash_pins_nothing(pool):
    put(pool, "a", 1)
    with pytest.raises(NotFound, match=b"gone".hex()):
        pool.lease([b"a", b"gone"], "reader", 1)
    assert pool.counts().leased == 0


def test_a_lease_settled_before_it_was_asked_for_is_refused(pool):
    put(pool, "a", 1)
    pool.leases.settled_keys("reader", [9])
    with pytest.raises(Cancelled):
        pool.lease([b"a"], "reader", 9)


def test_an_embedding_larger_than_the_pool_is_the_callers_mistake(pool):
    with pytest.raises(InvalidRequest, match="embedding pages; the pool has"):
        pool.reserve(6 * PAGE_ROWS + 1)


def test_flush_drops_what_nobody_holds_or_leases(pool, clock):
    put(pool, "old", 2 * PAGE_ROWS)
    put(pool, "leased", 1)
    lease, _ = pool.lease([b"leased"], "reader", 1)
    clock.now += HOLD_S + 1
    pool.leases.renew(lease.id)
    pool.tick()
    put(pool, "held", 1)
    assert pool.flush() == (2, 1)
    assert pool.find(b"old") is None
    assert pool.find(b"held") is not None


def test_the_region_covers_the_whole_pool_in_pages(pool, rows):
    region = pool.region()
    assert region.base_address == rows.data_ptr()
    assert region.entry_bytes == PAGE_ROWS * WIDTH * 4
    assert region.entry_count == 6


def test_pages_are_used_while_being_filled_and_cached_while_held(pool, clock):
    pages = pool.reserve(65)
    assert (pool.counts().used, pool.counts().cached) == (2, 0)
    pool.store(b"a", (1, 10, 26), 65, pages)
    assert (pool.counts().used, pool.counts().cached) == (0, 2)
    lease, _ = pool.lease([b"a"], "reader", 1)
    assert (pool.counts().leased, pool.counts().cached) == (2, 0)
    pool.leases.release(lease.id)
    clock.now += HOLD_S
    pool.tick()
    assert (pool.counts().used, pool.counts().cached) == (0, 2)
