"""Requests to tokens: what is computed here, what is asked for, and what is shared."""

from __future__ import annotations

import pytest

from services.common.errors import InternalError
from tests.support.decode_bench import Bench, medium, prompt_of
from tests.support.fake_runner import greedy


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 128, 129, 200])
def test_a_prompt_computed_here_gives_the_tokens_of_a_plain_run(length):
    bench = Bench(8, local_prefill_tokens=1000)
    heard = bench.submit(prompt_of(length), 70)
    bench.run()
    assert heard.tokens[0] == greedy(prompt_of(length), 70)
    assert heard.finish() == "LENGTH"
    bench.check_free()


@pytest.mark.parametrize("length", [18, 64, 65, 66, 129])
def test_a_prompt_filled_by_prefill_gives_the_tokens_of_a_plain_run(length):
    bench = Bench(8)
    heard = bench.submit(prompt_of(length), 5, prefill=["prefill:1"])
    bench.run()
    _, order = bench.io.orders[0]
    assert order.token_ids == tuple(prompt_of(length)[:-1]), "the last token is computed here"
    assert len(order.pages) == -(-(length - 1) // 64)
    assert heard.tokens == {}
    bench.fill()
    bench.run()
    assert heard.tokens[0] == greedy(prompt_of(length), 5)
    assert heard.stats[0].prefill_address == "prefill:1"
    bench.check_free()


def test_a_prompt_of_one_token_calls_no_prefill():
    bench = Bench(4, local_prefill_tokens=0)
    heard = bench.submit([5], 3, prefill=["prefill:1"])
    bench.run()
    assert bench.io.orders == []
    assert heard.tokens[0] == greedy([5], 3)


def test_an_uncached_rest_up_to_the_threshold_is_computed_here():
    bench = Bench(8, local_prefill_tokens=16)
    first = bench.submit(prompt_of(129), 1, prefill=["prefill:1"])
    bench.run()
    bench.fill()
    bench.run()
    assert first.finish() == "LENGTH"
    second = bench.submit([*prompt_of(128), *range(17)], 4, prefill=["prefill:1"])
    bench.run()
    assert len(bench.io.orders) == 1
    assert second.tokens[0] == greedy([*prompt_of(128), *range(17)], 4)
    assert second.stats[0].cached_tokens == 128
    bench.submit([*prompt_of(128), *range(20, 38)], 4, prefill=["prefill:1"])
    bench.run()
    _, order = bench.io.orders[1]
    assert (order.cached_pages, len(order.pages)) == (2, 1), "only what is missing is asked for"


def test_no_tokens_wanted_means_prefill_only():
    bench = Bench(8)
    heard = bench.submit(prompt_of(130), 0, prefill=["prefill:1"], n=2)
    bench.run()
    bench.fill()
    bench.run()
    assert (heard.finish(0), heard.finish(1)) == ("LENGTH", "LENGTH")
    assert heard.tokens[0] == []
    assert bench.engine.load.pages.cached == 2
    bench.check_free()


def test_a_stop_token_ends_a_choice_and_is_told():
    bench = Bench(4)
    expected = greedy([5], 9)
    heard = bench.submit([5], 9, stop=[expected[3]])
    bench.run()
    assert heard.tokens[0] == expected[: expected.index(expected[3]) + 1]
    assert heard.finish() == "STOP"


def test_the_context_length_ends_a_choice():
    bench = Bench(4, context_length=12)
    heard = bench.submit(prompt_of(10), 99)
    bench.run()
    assert len(heard.tokens[0]) == 2
    assert heard.finish() == "LENGTH"


def test_a_resumed_choice_goes_on_where_it_stopped():
    bench = Bench(4)
    whole = greedy(prompt_of(10), 80)
    heard = bench.submit(prompt_of(10), 80, outputs=whole[:70])
    bench.run()
    assert heard.tokens[0] == whole[70:]
    assert heard.finish() == "LENGTH"


def test_a_choice_resumed_alone_keeps_its_index_and_place_in_the_sampling_key():
    bench = Bench(4)
    whole = greedy(prompt_of(10), 8)
    request = bench.request(prompt_of(10), 8, outputs=whole[:5], first_choice=3)
    bench.engine.submit(request)
    while not bench.engine._running.members:
        bench.engine.step()
    assert [sequence.sampling.choice for sequence in bench.engine._running.members] == [3]
    bench.run()
    heard = bench.heard[request.handle]
    assert heard.tokens == {3: whole[5:]}
    assert heard.finish(3) == "LENGTH"


@pytest.mark.parametrize("max_tokens", [0, 69, 70])
def test_a_resumed_choice_that_was_at_its_end_ends_without_another_token(max_tokens):
    bench = Bench(4)
    heard = bench.submit(prompt_of(10), max_tokens, outputs=greedy(prompt_of(10), 70))
    bench.run()
    assert heard.tokens[0] == []
    assert heard.finish() == "LENGTH"
    assert bench.runner.batches == []
    bench.check_free()


@pytest.mark.parametrize("length", [1, 10, 64, 65, 70])
def test_choices_share_full_pages_and_copy_the_last(length):
    bench = Bench(16, local_prefill_tokens=1000)
    heard = bench.submit(prompt_of(length), 3, n=3)
    bench.engine.step()
    while heard.tokens.get(0) is None:
        bench.engine.step()
    used = 3 * -(-length // 64) - 2 * ((length - 1) // 64)
    assert bench.engine.load.pages.used == used
    bench.run()
    for choice in range(3):
        assert heard.tokens[choice] == greedy(prompt_of(length), 3)
        assert heard.finish(choice) == "LENGTH"
    bench.check_free()


def test_choices_without_a_page_of_their_own_wait_and_lose_nothing():
    bench = Bench(3)
    heard = bench.submit(prompt_of(10), 60, n=3)
    other = bench.submit(prompt_of(10, seed=1), 60)
    bench.run()
    for choice in range(3):
        assert heard.tokens[choice] == greedy(prompt_of(10), 60)
        assert heard.finish(choice) == "LENGTH"
    assert other.tokens[0] == greedy(prompt_of(10, seed=1), 60)
    bench.check_free()


def test_the_youngest_is_preempted_and_gives_the_same_tokens_later():
    bench = Bench(4, local_prefill_tokens=1000)
    old, young = (bench.submit(prompt_of(40, seed), 150) for seed in (1, 2))
    bench.run()
    assert bench.engine.load.preemptions > 0
    assert old.tokens[0] == greedy(prompt_of(40, 1), 150)
    assert young.tokens[0] == greedy(prompt_of(40, 2), 150)
    bench.check_free()


def order_of_ends(bench, several):
    """Runs; the indices of requests in the order in which they end."""
    ended = []
    while bench.engine.step():
        ended += [index for index, heard in enumerate(several) if heard.finishes and index not in ended]
    return ended


def test_the_lowest_priority_is_preempted_however_old_it_is():
    bench = Bench(4, local_prefill_tokens=1000)
    low = bench.submit(prompt_of(40, 1), 150)
    bench.engine.step()
    high = bench.submit(prompt_of(40, 2), 150, priority=1)
    ended = order_of_ends(bench, [low, high])
    assert bench.engine.load.preemptions > 0
    assert ended[0] == 1
    assert low.tokens[0] == greedy(prompt_of(40, 1), 150)
    assert high.tokens[0] == greedy(prompt_of(40, 2), 150)
    bench.check_free()


def test_a_higher_priority_gets_pages_before_those_who_came_earlier():
    bench = Bench(3, local_prefill_tokens=1000)
    running = bench.submit(prompt_of(100, 1), 20)
    bench.engine.step()
    waiting = [bench.submit(prompt_of(100, 2 + rank), 20, priority=rank) for rank in (0, 2, 1, 2)]
    ended = order_of_ends(bench, waiting)
    assert running.finish() == "LENGTH"
    assert ended == [1, 3, 2, 0]


def test_a_prompt_is_fetched_with_the_priority_of_its_request():
    bench = Bench(8)
    bench.submit(prompt_of(100), 1, prefill=["prefill:1"], priority=-3)
    bench.run()
    assert bench.io.orders[0][1].priority == -3


def test_a_preempted_sequence_is_recomputed_through_prefill():
    bench = Bench(4)
    heard = [bench.submit(prompt_of(60, seed), 100, prefill=["prefill:1"]) for seed in (1, 2)]
    bench.run()
    bench.fill(0)
    bench.fill(1)
    bench.run()
    assert len(bench.io.orders) == 3
    _, order = bench.io.orders[2]
    assert order.token_ids[:60] == tuple(prompt_of(60, 2))
    assert list(order.token_ids[60:]) == greedy(prompt_of(60, 2), 100)[: len(order.token_ids) - 60]
    bench.fill(2)
    bench.run()
    assert [news.tokens[0] for news in heard] == [greedy(prompt_of(60, seed), 100) for seed in (1, 2)]
    bench.check_free()


def test_logits_that_are_not_numbers_fail_one_request_and_not_its_neighbours():
    bench = Bench(8)
    poisoned = next(start for start in range(64) if greedy([start], 1)[0] not in (start, 9))
    bench.runner.poison.add(poisoned)
    good = bench.submit([9], 1)
    bad = bench.submit([poisoned], 3, n=2)
    bench.run()
    assert good.finish() == "LENGTH"
    assert (bad.finish(0), bad.finish(1)) == ("ERROR", "ERROR")
    assert [type(error) for error in bad.errors] == [InternalError]
    bench.check_free()


def test_flushing_drops_cached_pages_nobody_holds():
    bench = Bench(8, local_prefill_tokens=1000)
    bench.submit(prompt_of(130), 1)
    bench.run()
    assert bench.engine.load.pages.cached == 3
    assert bench.engine.flush() == 3
    bench.engine.step()
    assert bench.engine.load.pages.free == 8


def test_generated_pages_are_found_by_the_next_turn():
    bench = Bench(8, local_prefill_tokens=1000)
    first = bench.submit(prompt_of(10), 120)
    bench.run()
    second = bench.submit([*prompt_of(10), *first.tokens[0], 1, 2, 3], 2)
    bench.run()
    assert second.stats[0].cached_tokens == 129, "the last token's KV was never computed"


def test_the_next_turn_computes_nothing_twice_whatever_its_first_pages_hold():
    bench = Bench(16, local_prefill_tokens=1000)
    conversation = prompt_of(10)
    for turn in range(6):
        before = len(conversation)
        heard = bench.submit(conversation, 20)
        bench.run()
        assert heard.tokens[0] == greedy(conversation, 20)
        assert heard.stats[0].cached_tokens == (before - 7 - 1 if turn else 0)
        conversation = [*conversation, *heard.tokens[0], *prompt_of(7, seed=turn + 1)]
    bench.check_free()


def test_a_prompt_that_leaves_a_conversation_within_a_page_takes_what_they_share():
    bench = Bench(16, local_prefill_tokens=1000)
    bench.submit(prompt_of(100), 20)
    bench.run()
    other = [*prompt_of(90), 1, 2, 3, 4, 5]
    heard = bench.submit(other, 10)
    bench.run()
    assert heard.tokens[0] == greedy(other, 10)
    assert heard.stats[0].cached_tokens == 90


def test_prefill_is_asked_for_whole_pages_whatever_is_cached_of_one():
    bench = Bench(16, local_prefill_tokens=16)
    bench.submit(prompt_of(10), 100)
    bench.run()
    long = [*prompt_of(10), *greedy(prompt_of(10), 100), *prompt_of(90, seed=3)]
    heard = bench.submit(long, 3, prefill=["prefill:1"])
    bench.run()
    _, order = bench.io.orders[-1]
    assert (order.cached_pages, len(order.pages)) == (1, 3)
    bench.fill()
    bench.run()
    assert heard.tokens[0] == greedy(long, 3)
    assert heard.stats[0].cached_tokens == 64


def test_pages_in_part_with_pads_of_media_are_not_taken_for_others():
    bench = Bench(8, local_prefill_tokens=1000)
    for name in (1, 2):
        heard = bench.submit([5] * 30, 4, media=[medium(3, 10, name)])
        bench.run()
        bench.give_media(float(name))
        bench.run()
        assert heard.finish() == "LENGTH"
        assert heard.stats[0].cached_tokens == 0


def test_a_broken_pool_is_counted_once_when_idle():
    bench = Bench(4)
    bench.submit([1], 1)
    bench.run()
    bench.engine._pages.pool._tally[0] += 1
    bench.submit([2], 1)
    bench.run()
    bench.run()
    assert bench.engine.load.integrity_failures == 1
