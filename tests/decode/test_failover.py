"""Fetches that fail."""

from __future__ import annotations

from services.common.errors import Overloaded, TransferFailed, Unavailable
from services.decode.prompts.fetch import FetchResult
from tests.support.decode_bench import Bench, prompt_of
from tests.support.fake_runner import greedy, write_context


def test_a_failed_fetch_goes_on_to_the_next_candidate():
    bench = Bench(4)
    heard = bench.submit(prompt_of(100), 3, prefill=["prefill:1", "prefill:2"])
    bench.run()
    bench.fail(Unavailable("prefill:1 died"))
    bench.run()
    assert [order.address for _, order in bench.io.orders] == ["prefill:1", "prefill:2"]
    bench.fill()
    bench.run()
    assert heard.tokens[0] == greedy(prompt_of(100), 3)
    assert heard.stats[0].prefill_address == "prefill:2"
    bench.check_free()


def test_pages_at_risk_are_not_used_by_the_next_attempt():
    bench = Bench(8)
    heard = bench.submit(prompt_of(100), 3, prefill=["prefill:1", "prefill:2"])
    bench.run()
    at_risk = bench.fail(Unavailable("prefill:1 hangs"), at_risk=2)
    bench.run()
    _, again = bench.io.orders[1]
    assert not set(again.pages) & set(at_risk)
    bench.fill()
    bench.kv_pages[list(at_risk)] = -1.0  # the late bytes of the first attempt
    bench.run()
    assert heard.tokens[0] == greedy(prompt_of(100), 3)
    assert bench.engine.load.pages.quarantined == 2
    bench.engine.pages_settled(at_risk)
    bench.check_free()


def test_the_last_candidates_refusal_is_the_requests():
    bench = Bench(4)
    heard = bench.submit(prompt_of(100), 3, prefill=["prefill:1"], n=2)
    bench.run()
    bench.fail(Overloaded("prefill:1 is full"))
    assert (heard.finish(0), heard.finish(1)) == ("ERROR", "ERROR")
    assert [error.message for error in heard.errors] == ["prefill:1 is full"]
    bench.check_free()


def test_a_bad_transfer_is_tried_once_more_at_the_same_worker():
    bench = Bench(4)
    heard = bench.submit(prompt_of(100), 3, prefill=["prefill:1"])
    bench.run()
    bench.fail(TransferFailed("corrupt"))
    bench.run()
    assert [order.address for _, order in bench.io.orders] == ["prefill:1", "prefill:1"]
    bench.fail(TransferFailed("corrupt again"))
    bench.run()
    assert heard.tokens[0] == greedy(prompt_of(100), 3)
    assert len(bench.io.orders) == 2
    bench.check_free()


def test_what_a_failed_attempt_left_in_a_cache_is_not_called_cached():
    bench = Bench(8)
    heard = bench.submit(prompt_of(300), 3, prefill=["prefill:1"])
    bench.run()
    bench.fail(TransferFailed("a bad read"))
    bench.run()
    prompt, order = bench.io.orders[1]
    write_context(bench.kv_pages, order.pages, order.token_ids, order.cached_pages)
    bench.engine.fetch_ended(prompt, FetchResult(None, computed_tokens=0))
    bench.run()
    assert heard.tokens[0] == greedy(prompt_of(300), 3)
    assert (heard.stats[0].cached_tokens, heard.stats[0].prefill_cached_tokens) == (0, 0)
