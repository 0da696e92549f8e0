"""What the engine does not take."""

from __future__ import annotations

from services.common.errors import InvalidRequest, Overloaded, Unavailable
from tests.support.decode_bench import Bench, Heard, prompt_of
from tests.support.fake_runner import greedy


def test_a_handle_in_use_is_refused_and_its_owner_goes_on():
    bench = Bench(8)
    first = bench.request(prompt_of(5), 30)
    news = bench.heard[1]
    bench.engine.submit(first)
    bench.engine.step()
    bench.heard[1] = refused = Heard()
    bench.engine.submit(bench.request(prompt_of(7), 4, handle=1))
    bench.heard[1] = news
    assert refused.finish() == "ERROR"
    assert isinstance(refused.errors[0], InvalidRequest)
    bench.engine.step()
    bench.engine.cancel(bench.session, 1)
    assert news.finish() == "CANCELLED", "the handle still names the first request"
    bench.check_free()


def test_a_handle_can_be_used_again_after_the_end():
    bench = Bench(8)
    bench.submit(prompt_of(5), 2)
    bench.run()
    bench.heard[1] = again = Heard()
    bench.engine.submit(bench.request(prompt_of(6), 2, handle=1))
    bench.run()
    assert again.tokens[0] == greedy(prompt_of(6), 2)


def test_a_full_queue_refuses_before_any_page_is_taken():
    bench = Bench(2, max_waiting=1)
    bench.submit(prompt_of(100), 4, prefill=["prefill:1"])
    bench.run()
    bench.submit(prompt_of(100, 1), 4, prefill=["prefill:1"])
    refused = bench.submit(prompt_of(3), n=2)
    assert (refused.finish(0), refused.finish(1)) == ("ERROR", "ERROR")
    assert [type(error) for error in refused.errors] == [Overloaded]


def test_a_draining_engine_refuses_what_is_new_and_finishes_what_runs():
    bench = Bench(8)
    running = bench.submit(prompt_of(5), 20)
    bench.engine.step()
    assert bench.engine.drain() == 1
    refused = bench.submit(prompt_of(6), 2)
    assert isinstance(refused.errors[0], Unavailable)
    bench.run()
    assert running.tokens[0] == greedy(prompt_of(5), 20)
    assert bench.engine.drain() == 0
    bench.engine.undrain()
    admitted = bench.submit(prompt_of(6), 2)
    bench.run()
    assert admitted.tokens[0] == greedy(prompt_of(6), 2)


def test_a_choice_that_was_begun_elsewhere_is_neither_refused_for_newcomers_nor_behind_them():
    bench = Bench(2, max_waiting=1)
    running = bench.submit(prompt_of(100), 4, prefill=["prefill:1"])
    bench.run()
    newcomer = bench.submit(prompt_of(100, 1), 2)
    begun = greedy(prompt_of(100, 2), 3)
    resumed = bench.submit(prompt_of(100, 2), 8, outputs=begun)
    refused = bench.submit(prompt_of(100, 2), 8, outputs=begun)
    assert [type(error) for error in refused.errors] == [Overloaded], "there is a bound to these, too"
    bench.fill()
    while running.finish() is None or not resumed.tokens:
        bench.engine.step()
    assert not newcomer.tokens
    bench.run()
    assert resumed.tokens[0] == greedy(prompt_of(100, 2), 8)[3:]
    assert newcomer.tokens[0] == greedy(prompt_of(100, 1), 2)
    bench.check_free()


def test_a_choice_that_was_begun_elsewhere_is_not_refused_by_an_estimate():
    bench = Bench(8, local_prefill_tokens=10_000)
    bench.engine._rate.note(128, 128, 1000.0)
    assert isinstance(bench.submit(prompt_of(300), 4).errors, list)
    refused = bench.submit(prompt_of(300, 1), 4)
    assert [type(error) for error in refused.errors] == [Overloaded]
    resumed = bench.submit(prompt_of(300, 1), 4, outputs=greedy(prompt_of(300, 1), 1))
    assert resumed.errors == []
    bench.run()
    assert resumed.tokens[0] == greedy(prompt_of(300, 1), 4)[1:]
