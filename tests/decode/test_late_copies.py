"""A device copies pages later than it is asked to, and a fetch reads into its pages at any time."""

from __future__ import annotations

import pytest

from services.decode.prompts.fetch import FetchOrder
from services.decode.request import Prompt
from tests.support.decode_bench import Bench, RecordedIO, medium, prompt_of
from tests.support.fake_runner import greedy, write_context

FIRST = prompt_of(100)
CONTEXT = FIRST + greedy(FIRST, 4)
"""The first turn writes 103 tokens: a page, and a tail of 39."""
FAR = ["prefill:1"]


class QuickFetches(RecordedIO):
    """Fetches that finish before the call that orders them returns."""

    bench: Bench

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        super().start_fetch(prompt, order)
        write_context(self.bench.kv_pages, order.pages, order.token_ids, order.cached_pages)


@pytest.fixture(params=[False, True], ids=["in step", "ahead"])
def bench(request):
    """Its device is late, its fetches quick; the first turn is over. Five pages: a cached one and a tail."""
    io = QuickFetches()
    bench = io.bench = Bench(5, late=True, ahead=request.param, io=io)
    assert bench.submit(FIRST, 4) is not None
    bench.run()
    counts = bench.engine.load.pages
    assert (counts.free, counts.cached) == (3, 2)
    return bench


def test_what_a_fetch_has_read_is_not_overwritten_by_a_tail(bench):
    turn = [*CONTEXT, *prompt_of(100, 5)]
    heard = bench.submit(turn, 4, prefill=FAR)
    bench.run()
    bench.fill()
    bench.run()
    assert heard.tokens[0] == greedy(turn, 4)
    assert bench.runner.copies == []
    assert bench.io.orders[0][1].cached_pages == 1
    bench.check_free()


def test_a_tail_that_saves_the_fetch_is_copied(bench):
    turn = [*CONTEXT, *prompt_of(10, 5)]
    heard = bench.submit(turn, 4, prefill=FAR)
    bench.run()
    assert heard.tokens[0] == greedy(turn, 4)
    assert len(bench.runner.copies) == 1
    assert bench.io.orders == []
    bench.check_free()


def test_a_page_that_is_let_go_of_before_its_copy_is_made_is_not_read_into_before(bench):
    """The prompt waits for an image, so that no step comes behind the copy."""
    turn = [*CONTEXT, *prompt_of(15, 5)]
    request = bench.request(turn, 4, prefill=FAR, media=[medium(110, 4)])
    bench.engine.submit(request)
    bench.run()
    assert len(bench.io.media) == 1
    bench.engine.cancel(bench.session, request.handle)
    other = prompt_of(310, 7)
    heard = bench.submit(other, 4, prefill=FAR)
    bench.run()
    bench.fill()
    bench.run()
    assert heard.tokens[0] == greedy(other, 4)
    bench.check_free()


def test_a_page_is_not_read_into_before_what_is_copied_from_it_is(bench):
    """Beside the prompt that goes on from the tail, another one wants all pages that are left."""
    turn, other = [*CONTEXT, *prompt_of(10, 5)], prompt_of(180, 7)
    near, far = bench.submit(turn, 4, prefill=FAR), bench.submit(other, 4, prefill=FAR)
    bench.run()
    bench.fill()
    bench.run()
    assert near.tokens[0] == greedy(turn, 4)
    assert far.tokens[0] == greedy(other, 4)
    bench.check_free()


def test_choices_whose_copies_are_late_have_all_of_their_prompt(bench):
    heard = bench.submit(prompt_of(150, 3), 4, n=2)
    bench.run()
    assert heard.tokens == {choice: greedy(prompt_of(150, 3), 4) for choice in range(2)}
    bench.check_free()
