"""Cached pages are pinned for peers, stay findable, and come back."""

from __future__ import annotations

import pytest

from services.common.errors import Cancelled, InternalError, NotFound, Unavailable
from services.common.page_hash import chain_hashes
from tests.support.decode_bench import Bench, prompt_of
from tests.support.fake_runner import greedy, read_context
from tests.support.manual_clock import ManualClock


def bench_with(length: int, num_pages: int = 8, **options) -> Bench:
    """An engine that has computed a prompt of `length`; its whole pages are cached."""
    bench = Bench(num_pages, local_prefill_tokens=1000, **options)
    bench.submit([*prompt_of(length), 1], 0)
    bench.run()
    return bench


def hashes_of(length: int) -> list[bytes]:
    return chain_hashes(prompt_of(length), [], "")


def test_the_longest_cached_prefix_is_lent_and_holds_what_its_hashes_say():
    bench = bench_with(150)
    lease = bench.engine.lending.lease("prefill-a", 1, hashes_of(300))
    assert read_context(bench.kv_pages, lease.pages, 128) == prompt_of(150)[:128]
    bench.engine.step()
    assert (bench.engine.load.pages.leased, bench.serving) == (2, [True])
    bench.engine.lending.release(lease.id)
    assert bench.serving == [True, False]
    bench.check_free()


def test_generated_pages_are_lent_too():
    bench = Bench(8, local_prefill_tokens=1000)
    heard = bench.submit(prompt_of(10), 120)
    bench.run()
    context = [*prompt_of(10), *heard.tokens[0]]
    lease = bench.engine.lending.lease("prefill-a", 1, chain_hashes(context, [], ""))
    assert read_context(bench.kv_pages, lease.pages, 128) == context[:128]


def test_where_the_first_page_is_not_cached_nothing_is_lent():
    bench = bench_with(150)
    with pytest.raises(NotFound):
        bench.engine.lending.lease("prefill-a", 1, chain_hashes(prompt_of(150, seed=1), [], ""))
    bench.engine.flush()
    with pytest.raises(NotFound):
        bench.engine.lending.lease("prefill-a", 1, hashes_of(150))
    assert bench.serving == []
    bench.check_free()


def test_a_lookup_for_a_peer_counts_as_no_request():
    bench = bench_with(150)
    before = vars(bench.engine._pages.cache.stats).copy()
    bench.engine.lending.lease("prefill-a", 1, hashes_of(150))
    assert vars(bench.engine._pages.cache.stats) == before


def test_leased_pages_are_neither_flushed_nor_evicted_and_are_found_by_requests():
    bench = bench_with(128, num_pages=4)
    lease = bench.engine.lending.lease("prefill-a", 1, hashes_of(128))
    assert bench.engine.flush() == 0
    heard = bench.submit([*prompt_of(128), 5], 3)
    bench.run()
    assert heard.stats[0].cached_tokens == 128
    assert heard.tokens[0] == greedy([*prompt_of(128), 5], 3)
    long = bench.submit(prompt_of(200, seed=1), 2)
    bench.run()
    assert long.tokens == {}, "only two pages are left beside the leased ones"
    bench.engine.lending.release(lease.id)
    bench.run()
    assert long.tokens[0] == greedy(prompt_of(200, seed=1), 2)
    bench.check_free()


def test_pages_of_a_request_that_runs_can_be_lent():
    bench = Bench(8, local_prefill_tokens=1000)
    bench.submit(prompt_of(130), 50)
    bench.engine.step()
    bench.engine.step()
    lease = bench.engine.lending.lease("prefill-a", 1, hashes_of(128))
    bench.run()
    assert read_context(bench.kv_pages, lease.pages, 128) == prompt_of(128)
    bench.engine.lending.release(lease.id)
    bench.check_free()


def test_an_expired_lease_keeps_its_pages_out_of_use_until_its_reader_settles():
    clock = ManualClock()
    bench = bench_with(128, lease_s=10.0, clock=clock)
    bench.engine.lending.lease("prefill-a", 1, hashes_of(128))
    clock.now += 10.0
    bench.engine.step()
    counts = bench.engine.load.pages
    assert (counts.leased, counts.quarantined) == (0, 2)
    assert bench.serving == [True], "its reader may be reading still"
    bench.engine.lending.settled("prefill-a", [1])
    assert bench.serving == [True, False]
    bench.check_free()


def test_a_reader_that_is_gone_takes_its_leases_along():
    bench = bench_with(128)
    bench.engine.lending.lease("prefill-a", 1, hashes_of(128))
    bench.engine.lending.reader_gone("prefill-a")
    bench.check_free()
    with pytest.raises(Cancelled):
        bench.engine.lending.lease("prefill-a", 2, hashes_of(128))


def test_a_key_used_twice_is_refused_and_the_first_lease_stays():
    bench = bench_with(128)
    lease = bench.engine.lending.lease("prefill-a", 1, hashes_of(128))
    with pytest.raises(InternalError):
        bench.engine.lending.lease("prefill-a", 1, hashes_of(128))
    bench.engine.step()
    assert bench.engine.load.pages.leased == 2
    bench.engine.lending.release(lease.id)
    bench.check_free()


def test_own_pages_at_risk_are_no_peers_business():
    bench = Bench(8)
    bench.submit(prompt_of(100), 3, prefill=["prefill:1"])
    bench.run()
    at_risk = bench.fail(Unavailable("prefill:1 hangs"), at_risk=2)
    bench.run()
    assert bench.engine.load.pages.quarantined == 2
    assert bench.serving == []
    bench.engine.pages_settled(at_risk)
    bench.check_free()
