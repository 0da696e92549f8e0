"""When the engine reports that a request is no longer refused."""

from __future__ import annotations

import pytest

from services.common.errors import InvalidRequest, Overloaded, Unavailable
from services.decode.constraint.rules import ConstraintRules
from tests.support.decode_bench import Bench, prompt_of
from tests.support.fake_runner import greedy

RULES = ConstraintRules("", in_reasoning=False, has_section=False, waits_for_section=False)


def test_a_prompt_that_is_computed_here_is_accepted_before_anything_is_computed():
    bench = Bench(8)
    heard = bench.submit(prompt_of(300), 3)
    assert bench.accepted == [1]
    assert heard.tokens == {}
    bench.run()
    assert heard.tokens[0] == greedy(prompt_of(300), 3)
    assert bench.accepted == [1]


def test_a_request_that_waits_in_the_queue_is_accepted_in_it():
    bench = Bench(4)
    for _ in range(3):
        bench.submit(prompt_of(200), 3)
    bench.engine.step()
    assert bench.engine.load.waiting == 2
    assert bench.accepted == [1, 2, 3]


def test_a_prompt_for_prefill_is_accepted_once_prefill_has_admitted_it():
    bench = Bench(8)
    bench.submit(prompt_of(300), 3, prefill=["prefill:1"])
    bench.run()
    assert bench.accepted == []
    prompt, _ = bench.io.orders[-1]
    bench.engine.fetch_admitted(prompt)
    assert bench.accepted == [1]
    bench.fill()
    bench.run()
    assert bench.heard[1].finish() == "LENGTH"
    assert bench.accepted == [1]


def test_a_prompt_that_prefill_refuses_is_not_accepted_and_one_that_comes_back_is():
    bench = Bench(8)
    bench.submit(prompt_of(300), 3, prefill=["prefill:1"])
    bench.run()
    bench.fail(Overloaded("prefill:1 is full"))
    assert (bench.accepted, bench.heard[1].finish()) == ([], "ERROR")
    bench.submit(prompt_of(300, seed=1), 3, prefill=["prefill:1"])
    bench.run()
    bench.fail(Unavailable("prefill:1 is gone"))
    assert bench.accepted == [2]


def test_an_accepted_request_is_not_shed_when_its_prefill_worker_is_lost_and_the_next_is_full():
    bench = Bench(8)
    heard = bench.submit(prompt_of(300), 3, prefill=["prefill:1", "prefill:2"])
    bench.run()
    bench.engine.fetch_admitted(bench.io.orders[-1][0])
    bench.fail(Unavailable("prefill:1 is gone"))
    bench.run()
    bench.fail(Overloaded("prefill:2 is full"))
    bench.run()
    assert heard.errors == []
    assert heard.tokens[0] == greedy(prompt_of(300), 3)


@pytest.mark.parametrize(
    "error", [InvalidRequest("the grammar does not compile"), Overloaded("large grammars wait")]
)
def test_a_request_with_a_grammar_is_not_accepted_before_it_is_compiled(error):
    bench = Bench(8)
    request = bench.request(prompt_of(10), 3, rules=RULES)
    bench.engine.submit(request)
    bench.run()
    assert bench.accepted == []
    bench.engine.constraint_made(request, error)
    assert bench.accepted == []
    assert bench.heard[1].errors == [error]


def test_a_refused_or_resumed_or_cancelled_request_is_not_accepted():
    bench = Bench(8)
    bench.submit(prompt_of(10), 3, outputs=[1, 2])
    bench.engine.drain()
    bench.submit(prompt_of(10), 3)
    bench.engine.undrain()
    late = bench.request(prompt_of(300), 3, prefill=["prefill:1"])
    bench.engine.submit(late)
    bench.run()
    bench.engine.cancel(bench.session, late.handle)
    bench.engine.fetch_admitted(bench.io.orders[-1][0])
    assert bench.accepted == []
