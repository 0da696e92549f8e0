"""Tenants share a decode worker's queue, its places and its pages."""

from __future__ import annotations

import pytest

from services.common.errors import Overloaded
from tests.support.decode_bench import Bench, prompt_of
from tests.support.fake_runner import greedy
from tests.support.manual_clock import ManualClock

FLOOD, OTHER = 11, 22


def steps_until(bench, condition, most=200):
    """How many steps it takes."""
    for step in range(most):
        if condition():
            return step
        bench.engine.step()
    raise AssertionError("it did not happen")


def test_a_tenant_gets_room_at_once_from_one_that_has_more_than_its_share():
    bench = Bench(32, max_running=4, local_prefill_tokens=1000)
    floods = [bench.submit(prompt_of(5, seed), 60, tenant=FLOOD) for seed in range(8)]
    bench.engine.step()
    assert bench.engine.load.running == 4
    other = bench.submit(prompt_of(6, 99), 3, tenant=OTHER)
    assert steps_until(bench, lambda: bool(other.tokens.get(0))) <= 3
    assert bench.engine.load.preemptions == 1
    bench.run()
    assert other.tokens[0] == greedy(prompt_of(6, 99), 3)
    for seed, flood in enumerate(floods):
        assert flood.tokens[0] == greedy(prompt_of(5, seed), 60), "who made room goes on with the same tokens"
    bench.check_free()


def test_a_tenant_gets_pages_at_once_from_one_that_has_more_than_its_share():
    bench = Bench(8, local_prefill_tokens=1000, chunk_tokens=512)
    floods = [bench.submit(prompt_of(100, seed), 20, tenant=FLOOD) for seed in range(4)]
    bench.engine.step()
    assert bench.engine.load.running == 4
    other = bench.submit(prompt_of(120, 99), 3, tenant=OTHER)
    assert steps_until(bench, lambda: bool(other.tokens.get(0))) <= 3
    bench.run()
    assert [flood.tokens[0] for flood in floods] == [greedy(prompt_of(100, seed), 20) for seed in range(4)]
    bench.check_free()


@pytest.mark.parametrize("ahead", [False, True])
def test_equal_tenants_end_at_equal_shares_and_take_nothing_from_each_other_in_turn(ahead):
    bench = Bench(64, max_running=4, local_prefill_tokens=1000, ahead=ahead)
    heard = {
        (tenant, seed): bench.submit(prompt_of(5, seed + tenant), 40, tenant=tenant)
        for tenant in (FLOOD, OTHER)
        for seed in range(6)
    }
    for _ in range(10):
        bench.engine.step()
    held = [sequence.request.tenant for sequence in bench.engine._running.members]
    assert sorted(held) == [FLOOD, FLOOD, OTHER, OTHER]
    before = bench.engine.load.preemptions
    for _ in range(20):
        bench.engine.step()
    assert bench.engine.load.preemptions == before <= 2
    bench.run()
    for (tenant, seed), each in heard.items():
        assert each.tokens[0] == greedy(prompt_of(5, seed + tenant), 40)
    bench.check_free()


def test_a_weight_gives_that_much_more_room():
    bench = Bench(64, max_running=8, local_prefill_tokens=1000)
    for seed in range(12):
        bench.submit(prompt_of(5, seed), 60, tenant=FLOOD)
        bench.submit(prompt_of(5, seed + 50), 60, tenant=OTHER, weight=3)
    for _ in range(12):
        bench.engine.step()
    held = [sequence.request.tenant for sequence in bench.engine._running.members]
    assert (held.count(FLOOD), held.count(OTHER)) == (2, 6)


@pytest.mark.parametrize("tenant", [0, FLOOD])
def test_one_tenant_alone_preempts_nothing_however_much_waits(tenant):
    bench = Bench(32, max_running=2, local_prefill_tokens=1000)
    order = []
    for seed, priority in enumerate((0, 0, 0, 5, -5, 5)):
        heard = bench.submit(prompt_of(5, seed), 4, tenant=tenant, priority=priority)
        heard.finishes = _Ends(order, seed)
    bench.run()
    assert bench.engine.load.preemptions == 0
    assert order == [3, 5, 0, 1, 2, 4]


class _Ends(dict):
    """Notes the order in which requests end."""

    def __init__(self, order, name):
        super().__init__()
        self._order, self._name = order, name

    def setdefault(self, choice, default):
        self._order.append(self._name)
        return super().setdefault(choice, default)


def test_a_short_prompt_is_not_behind_another_tenants_long_ones():
    bench = Bench(64, local_prefill_tokens=10_000, chunk_tokens=128, context_length=4096)
    for seed in range(3):
        bench.submit(prompt_of(1000, seed), 2, tenant=FLOOD)
    bench.engine.step()
    other = bench.submit(prompt_of(100, 9), 2, tenant=OTHER)
    assert steps_until(bench, lambda: bool(other.tokens.get(0))) <= 3


def test_a_flood_of_waiting_requests_leaves_places_for_another_tenant():
    bench = Bench(2, max_waiting=8, max_running=1, local_prefill_tokens=1000)
    floods = [bench.submit(prompt_of(3, seed), 50, tenant=FLOOD) for seed in range(12)]
    refused = [flood for flood in floods if flood.errors]
    assert {type(flood.errors[0]) for flood in refused} == {Overloaded}
    assert len(refused) == 12 - 6
    other = bench.submit(prompt_of(4, 9), 2, tenant=OTHER)
    assert not other.errors
    steps_until(bench, lambda: other.finish() == "LENGTH")


def test_a_flood_of_long_prompts_is_no_reason_to_refuse_another_tenants_prompt():
    clock = ManualClock()
    bench = Bench(256, local_prefill_tokens=1, clock=clock, context_length=8192, max_waiting=64)
    bench.engine._rate.note(1000, 1000, 10.0)  # 100 tokens a second
    for seed in range(12):
        bench.submit(prompt_of(1000, seed), 2, tenant=FLOOD, timeout_s=1000.0)
    other = bench.submit(prompt_of(500, 50), 2, tenant=OTHER, timeout_s=30.0)
    assert not other.errors, "it takes its turns: 10 s of the next 10 to 20"
    same = bench.submit(prompt_of(500, 51), 2, tenant=FLOOD, timeout_s=30.0)
    assert isinstance(same.errors[0], Overloaded)


def test_prefill_learns_whose_prompt_it_is():
    bench = Bench(8, local_prefill_tokens=1)
    bench.submit(prompt_of(100), 2, tenant=OTHER, weight=7, prefill=["prefill:1"])
    bench.run()
    [(_, order)] = bench.io.orders
    assert (order.tenant, order.weight) == (OTHER, 7)


def chunks_of(bench):
    """The tenants of each pass's prompts, from now on."""
    passes, launch = [], bench.stepper.launch

    def noting(step):
        passes.append({prompt.tenant for prompt, _, _ in step.chunks})
        launch(step)

    bench.stepper.launch = noting
    return passes


def test_a_pass_computes_prompts_of_one_tenant_and_none_delays_anothers_first_token():
    bench = Bench(64, local_prefill_tokens=10_000, chunk_tokens=128, context_length=4096)
    for seed in range(2):
        bench.submit(prompt_of(1000, seed), 2, tenant=FLOOD)
    bench.engine.step()
    passes = chunks_of(bench)
    other = bench.submit(prompt_of(40, 9), 6, tenant=OTHER)
    assert steps_until(bench, lambda: bool(other.tokens.get(0))) <= 3
    assert passes[:2] == [{OTHER}, set()]
    bench.run()
    assert FLOOD in set().union(*passes)


def test_a_tenant_that_has_had_more_delays_nobody_by_its_first_tokens():
    bench = Bench(128, local_prefill_tokens=10_000, chunk_tokens=64, context_length=4096, max_waiting=64)
    for seed in range(30):
        bench.submit(prompt_of(60, seed), 1, tenant=FLOOD)
    for _ in range(4):
        bench.engine.step()
    other = bench.submit(prompt_of(640, 99), 1, tenant=OTHER)
    assert steps_until(bench, lambda: other.finish() == "LENGTH") <= 24, "it has every second pass"
    bench.run()


def test_a_prompt_that_waits_for_its_grammar_keeps_no_other_tenants_prompt_waiting():
    bench = Bench(64, local_prefill_tokens=10_000)
    bench.submit(prompt_of(100, 8), 1, tenant=OTHER)
    bench.run()
    flood = bench.submit(prompt_of(10, 1), 2, tenant=FLOOD, rules=object())  # it is never compiled
    for _ in range(3):
        bench.engine.step()
    other = bench.submit(prompt_of(100, 9), 2, tenant=OTHER)
    assert steps_until(bench, lambda: bool(other.tokens.get(0))) <= 3
    assert flood.tokens == {}


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("pages", "places"), [(8, 64), (64, 4)])
def test_prompts_that_wait_for_their_grammar_make_room_for_another_tenants(pages, places, ahead):
    bench = Bench(pages, max_running=places, local_prefill_tokens=1000, chunk_tokens=512, ahead=ahead)
    for seed in range(6):
        bench.submit(prompt_of(100, seed), 2, tenant=FLOOD, rules=object())  # it is never compiled
    for _ in range(4):
        bench.engine.step()
    assert bench.engine.load.waiting
    others = [bench.submit(prompt_of(120, 90 + seed), 3, tenant=OTHER) for seed in range(2)]
    for other in others:
        assert steps_until(bench, lambda other=other: bool(other.tokens.get(0))) <= 8
    steps_until(bench, lambda: all(other.finish() for other in others))
    assert [other.tokens[0] for other in others] == [
        greedy(prompt_of(120, 90 + seed), 3) for seed in range(2)
    ]
    assert bench.engine.load.running + bench.engine.load.waiting == 6


def test_a_prompt_that_made_room_goes_on_when_its_grammar_is_there():
    bench = Bench(8, local_prefill_tokens=1000, chunk_tokens=512)
    floods = [bench.submit(prompt_of(100, seed), 3, tenant=FLOOD, rules=object()) for seed in range(4)]
    for _ in range(4):
        bench.engine.step()
    other = bench.submit(prompt_of(120, 99), 3, tenant=OTHER)
    steps_until(bench, lambda: other.finish() == "LENGTH")
    for request in bench.engine._outbox.requests():
        request.rules = None  # as good as compiled, and allows everything
    bench.run()
    assert [flood.tokens[0] for flood in floods] == [greedy(prompt_of(100, seed), 3) for seed in range(4)]
    bench.check_free()


def test_a_pass_is_shorter_while_another_tenant_may_come():
    bench = Bench(64, local_prefill_tokens=10_000, chunk_tokens=512, context_length=4096)
    lengths, launch = [], bench.stepper.launch

    def noting(step):
        lengths.append(sum(end - start for _, start, end in step.chunks))
        launch(step)

    bench.stepper.launch = noting
    bench.submit(prompt_of(40, 1), 1, tenant=OTHER)
    bench.submit(prompt_of(1000, 2), 1, tenant=FLOOD)
    bench.run()
    assert max(lengths) == 128


def test_prompts_that_are_nobodys_in_particular_share_every_pass():
    bench = Bench(64, local_prefill_tokens=10_000, chunk_tokens=128, context_length=4096)
    passes = chunks_of(bench)
    bench.submit(prompt_of(60, 1), 5)
    bench.engine.step()
    bench.submit(prompt_of(1000, 2), 2)
    bench.engine.step()
    assert passes[:2] == [{0}, {0}]
    bench.run()


def test_where_pages_run_out_the_tenant_that_has_most_gives_some_up_not_the_one_that_came_last():
    bench = Bench(8, local_prefill_tokens=1000, chunk_tokens=512)
    floods = [bench.submit(prompt_of(62, seed), 100, tenant=FLOOD) for seed in range(5)]
    bench.engine.step()
    other = bench.submit(prompt_of(60, 99), 30, tenant=OTHER)
    kept = []
    while other.finish() is None:
        bench.engine.step()
        kept.append(any(each.request.tenant == OTHER for each in bench.engine._running.members))
    assert bench.engine.load.preemptions > 0
    assert False not in kept[kept.index(True) : -1], "it was never preempted"
    bench.run()
    assert [flood.tokens[0] for flood in floods] == [greedy(prompt_of(62, seed), 100) for seed in range(5)]
    bench.check_free()


def test_a_tenant_that_waits_for_its_own_sequences_does_not_keep_another_waiting():
    bench = Bench(8, local_prefill_tokens=1000, chunk_tokens=512)
    for seed in range(3):
        bench.submit(prompt_of(100, 50 + seed), 1, tenant=OTHER)
        bench.run()
    floods = [bench.submit(prompt_of(62, seed), 60, tenant=FLOOD) for seed in range(7)]
    steps_until(bench, lambda: bench.engine.load.waiting > 0)  # pages ran out, and one lost its own
    other = bench.submit(prompt_of(60, 99), 2, tenant=OTHER)
    assert steps_until(bench, lambda: bool(other.tokens.get(0))) <= 3
    bench.run()
    assert [flood.tokens[0] for flood in floods] == [greedy(prompt_of(62, seed), 60) for seed in range(7)]
    bench.check_free()


def test_a_tenant_that_holds_nothing_is_passed_by_nobody():
    bench = Bench(8, local_prefill_tokens=1000, chunk_tokens=512)
    running = bench.submit(prompt_of(100, 1), 60, tenant=FLOOD)
    bench.engine.step()
    whole = bench.submit(prompt_of(450, 2), 2, tenant=OTHER)
    later = [bench.submit(prompt_of(62, 3 + seed), 60, tenant=FLOOD) for seed in range(4)]
    steps_until(bench, lambda: running.finish() == "LENGTH")
    steps_until(bench, lambda: whole.finish() == "LENGTH", most=40)
    assert not any(each.finish() for each in later)
    bench.run()
    bench.check_free()
