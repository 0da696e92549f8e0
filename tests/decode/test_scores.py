"""Scores of prompts: computed here or by a prefill worker, sent once, before everything else."""

from __future__ import annotations

import pytest

from services.common.errors import InternalError, TransferFailed, Unavailable
from services.engine.sampling.scores import Scoring
from tests.support.burst_stepper import BurstStepper
from tests.support.decode_bench import Bench, medium, prompt_of
from tests.support.fake_runner import greedy
from tests.support.fake_scores import expected_rows, rows_of

ALL = Scoring(1, 2)
FAR = ["prefill:1"]


@pytest.fixture(params=[False, True], ids=["in turn", "ahead"])
def bench(request):
    return Bench(32, ahead=request.param)


def check(heard, prompt, scoring=ALL):
    assert rows_of(heard.scores) == expected_rows(prompt, scoring)


@pytest.mark.parametrize("length", [2, 64, 65, 129, 130, 400])
@pytest.mark.parametrize("max_tokens", [0, 3])
def test_a_prompt_that_is_computed_here_is_scored_chunk_by_chunk(bench, length, max_tokens):
    prompt = prompt_of(length)
    heard = bench.submit(prompt, max_tokens, scoring=ALL)
    bench.run()
    check(heard, prompt)
    assert heard.tokens[0] == greedy(prompt, max_tokens)
    assert heard.finish() == "LENGTH"
    bench.check_free()


def test_prompts_of_one_pass_are_scored_beside_others_that_are_not(bench):
    prompts = [prompt_of(30, seed) for seed in range(4)]
    scorings = [ALL, None, Scoring(20, 0), Scoring(29, 1)]
    heard = [
        bench.submit(prompt, 2, scoring=scoring) for prompt, scoring in zip(prompts, scorings, strict=True)
    ]
    bench.run()
    for news, prompt, scoring in zip(heard, prompts, scorings, strict=True):
        if scoring is None:
            assert news.scores == []
        else:
            check(news, prompt, scoring)
        assert news.tokens[0] == greedy(prompt, 2)


@pytest.mark.parametrize("first", [1, 64, 65, 66, 128, 129, 130, 199])
def test_cached_pages_are_used_as_far_as_they_leave_out_no_score(bench, first):
    prompt = prompt_of(200)
    bench.submit(prompt, 1)
    bench.run()
    scoring = Scoring(first, 1)
    heard = bench.submit(prompt, 2, scoring=scoring)
    bench.run()
    check(heard, prompt, scoring)
    assert heard.stats[0].cached_tokens == (first - 1) // 64 * 64
    assert heard.tokens[0] == greedy(prompt, 2)
    bench.check_free()


def test_a_cached_tail_is_not_copied_over_what_is_to_be_scored(bench):
    prompt = prompt_of(100)
    bench.submit(prompt, 1)
    bench.run()
    heard = bench.submit(prompt, 1, scoring=Scoring(70, 0))
    bench.run()
    check(heard, prompt, Scoring(70, 0))
    again = bench.submit(prompt, 1, scoring=Scoring(99, 0))
    bench.run()
    check(again, prompt, Scoring(99, 0))


def test_later_requests_use_the_pages_of_a_scored_prompt(bench):
    prompt = prompt_of(200)
    bench.submit(prompt, 1, scoring=ALL)
    bench.run()
    heard = bench.submit(prompt, 1)
    bench.run()
    assert heard.stats[0].cached_tokens >= 192


def test_several_choices_have_one_list(bench):
    prompt = prompt_of(90)
    heard = bench.submit(prompt, 3, n=3, scoring=ALL)
    bench.run()
    check(heard, prompt)
    assert [heard.tokens[choice] for choice in range(3)] == [greedy(prompt, 3)] * 3


def test_a_prefill_worker_scores_what_it_computes(bench):
    prompt = prompt_of(300)
    bench.submit(prompt, 1)
    bench.run()
    heard = bench.submit(prompt, 2, prefill=FAR, own_address="decode:1", scoring=Scoring(100, 3))
    bench.run()
    [(_, order)] = bench.io.orders
    assert (order.scoring, order.next_token_id) == (Scoring(100, 3), prompt[-1])
    assert order.cached_pages == 1, "more pages would leave out scores"
    assert heard.scores == []
    bench.fill()
    bench.run()
    check(heard, prompt, Scoring(100, 3))
    assert heard.tokens[0] == greedy(prompt, 2)


@pytest.mark.parametrize("error", [Unavailable("restarted"), TransferFailed("lost")])
def test_after_a_failed_fetch_the_next_one_gives_all_scores(bench, error):
    prompt = prompt_of(300)
    heard = bench.submit(prompt, 2, prefill=["prefill:1", "prefill:2"], scoring=ALL)
    bench.run()
    bench.fail(error)
    bench.run()
    assert bench.io.orders[1][1].scoring == ALL
    bench.fill()
    bench.run()
    check(heard, prompt)
    bench.check_free()


def test_without_a_prefill_worker_left_they_are_computed_here(bench):
    prompt = prompt_of(300)
    heard = bench.submit(prompt, 2, prefill=FAR, scoring=ALL)
    bench.run()
    bench.fail(Unavailable("gone"))
    bench.run()
    check(heard, prompt)


def test_a_preempted_choice_does_not_repeat_them():
    bench = Bench(5)
    prompts = [prompt_of(100, seed) for seed in range(2)]
    heard = [bench.submit(prompt, 80, scoring=ALL) for prompt in prompts]
    bench.run()
    assert bench.engine.load.preemptions > 0
    for news, prompt in zip(heard, prompts, strict=True):
        check(news, prompt)
        assert news.tokens[0] == greedy(prompt, 80)


def test_pads_of_media_are_scored_like_tokens(bench):
    prompt = prompt_of(40)
    heard = bench.submit(prompt, 1, media=[medium(5, 4)], scoring=ALL)
    bench.run()
    bench.give_media()
    bench.run()
    assert [row[0] for row in rows_of(heard.scores)] == list(range(1, 40))


def test_logits_without_a_finite_value_end_the_request_and_no_other(bench):
    prompt = [3, 4, 5, 6]
    bench.runner.poison.add(4)
    heard = bench.submit(prompt, 2, scoring=ALL)
    other = bench.submit(prompt_of(3), 0, scoring=Scoring(2, 0))
    bench.run()
    assert heard.scores == []
    [error] = heard.errors
    assert isinstance(error, InternalError)
    assert (other.finish(), len(other.scores)) == ("LENGTH", 1)
    bench.check_free()


def test_a_long_list_is_sent_in_pieces():
    bench = Bench(16)
    prompt = prompt_of(1000)
    heard = bench.submit(prompt, 1, scoring=Scoring(1, 20))
    bench.run()
    assert len(heard.scores) > 1
    check(heard, prompt, Scoring(1, 20))


def test_a_cancelled_prompt_sends_none(bench):
    request = bench.request(prompt_of(400), 2, scoring=ALL)
    bench.engine.submit(request)
    bench.engine.step()
    bench.engine.cancel(bench.session, request.handle)
    bench.run()
    assert bench.heard[request.handle].scores == []
    bench.check_free()


def test_an_engine_of_several_tokens_a_step_sends_them_too():
    bench = Bench(16, stepper=lambda *parts: BurstStepper(*parts, 3))
    prompt = prompt_of(200)
    heard = bench.submit(prompt, 7, scoring=ALL)
    bench.run()
    check(heard, prompt)
    assert heard.tokens[0] == greedy(prompt, 7)
