"""Tenants share a prefill worker's queue."""

from __future__ import annotations

from services.prefill.events import Admitted, Done, Refused
from tests.support.decode_bench import prompt_of
from tests.support.prefill_bench import PrefillBench

FLOOD, OTHER = 11, 22


def test_a_short_prompt_is_not_behind_another_tenants_long_ones():
    bench = PrefillBench(64, chunk_tokens=128)
    floods = [bench.submit(prompt_of(900, seed), tenant=FLOOD) for seed in range(3)]
    bench.engine.step()
    other = bench.submit(prompt_of(60, 9), tenant=OTHER)
    bench.engine.step()
    assert other.all(Done)
    assert not any(flood.all(Done) for flood in floods)
    bench.run()
    assert all(flood.all(Done) for flood in floods)


def test_tenants_take_turns_for_pages_that_become_free():
    bench = PrefillBench(4, chunk_tokens=512)
    first = bench.submit(prompt_of(250), tenant=FLOOD)
    bench.engine.step()
    waiting = [bench.submit(prompt_of(250, seed), tenant=FLOOD) for seed in range(1, 4)]
    other = bench.submit(prompt_of(250, 9), tenant=OTHER)
    bench.engine.release(first.job)
    bench.engine.step()
    assert other.all(Admitted)
    assert not any(each.all(Admitted) for each in waiting)


def test_a_flood_of_waiting_prompts_leaves_places_for_another_tenant():
    bench = PrefillBench(2, max_waiting=8)
    bench.submit(prompt_of(100), tenant=FLOOD)
    bench.engine.step()
    floods = [bench.submit(prompt_of(100, seed), tenant=FLOOD) for seed in range(12)]
    assert sum(bool(flood.all(Refused)) for flood in floods) == 6
    assert not bench.submit(prompt_of(100, 99), tenant=OTHER).all(Refused)
    unnamed = [bench.submit(prompt_of(100, seed)) for seed in range(100, 104)]
    assert [bool(each.all(Refused)) for each in unnamed] == [False, True, True, True]


def test_a_pass_is_shorter_while_another_tenant_may_come():
    bench = PrefillBench(64, chunk_tokens=512)
    short = bench.submit(prompt_of(60, 1), tenant=OTHER)
    flood = bench.submit(prompt_of(640, 2), tenant=FLOOD)
    passes = 0
    while not flood.all(Done):
        bench.engine.step()
        passes += 1
    assert short.all(Done)
    assert passes == 1 + 640 // 128
