"""Constrained requests in a decode engine, over a model that says anything."""

from __future__ import annotations

import json
import threading

import pytest

from services.common.errors import InternalError, InvalidRequest
from services.decode.constraint.maker import ConstraintMaker
from services.decode.constraint.rules import ConstraintRules
from services.decode.constraint.token_constraint import TokenConstraint
from services.engine.sampling.spec import SamplingSpec
from tests.support.babbler import VOCAB, Babbler, LateBabbler
from tests.support.decode_bench import Bench

OBJECT = (
    'start: %json {"type": "object", "properties": {"a": {"type": "string", "maxLength": 12},'
    ' "b": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["a", "b"],'
    ' "additionalProperties": false}'
)
PROMPT = list(range(70))


class ConstrainedBench(Bench):
    def __init__(self, num_pages: int = 64, ahead: bool = False, **options) -> None:
        options.setdefault("runner", LateBabbler if ahead else Babbler)
        super().__init__(num_pages, ahead=ahead, vocab_size=VOCAB, local_prefill_tokens=1000, **options)

    def ask(
        self, compiler, grammar: str | None = OBJECT, made=None, max_tokens: int = 200, *,
        in_reasoning: bool = False, **options,
    ):  # fmt: skip
        """Submits a request at temperature 1, its constraint there at once; `made`: in its place."""
        rules = None if grammar is None else ConstraintRules(grammar, in_reasoning, False, False)
        request = self.request(PROMPT, max_tokens, rules=rules, **options)
        object.__setattr__(request, "spec", SamplingSpec())
        self.engine.submit(request)
        if rules is not None:
            ready = threading.Event()

            def deliver(constraint):
                self.engine.constraint_made(request, made or constraint)
                ready.set()

            maker = ConstraintMaker.__new__(ConstraintMaker)
            maker._compiler = threading.local()
            maker._compiler.result = lambda: compiler
            deliver(maker._made(request.request_id, rules, max_tokens, request.output_ids))
        return request, self.heard[request.handle]


@pytest.fixture(params=[False, True], ids=["in step", "ahead"])
def bench(request):
    bench = ConstrainedBench(ahead=request.param)
    yield bench
    bench.check_free()
    bench.masks.close()


def text(tokenizer, tokens):
    return tokenizer.decode(tokens[:-1])


def test_a_constrained_request_ends_with_what_its_grammar_allows(bench, compiler, tokenizer):
    _, heard = bench.ask(compiler)
    bench.run()
    assert heard.finish() == "STOP", heard.errors
    value = json.loads(text(tokenizer, heard.tokens[0]))
    assert set(value) == {"a", "b"}


def test_every_choice_has_a_state_of_its_own(bench, compiler, tokenizer):
    _, heard = bench.ask(compiler, n=3)
    bench.run()
    answers = {text(tokenizer, heard.tokens[choice]) for choice in range(3)}
    assert len(answers) == 3
    assert all(set(json.loads(answer)) == {"a", "b"} for answer in answers)


def test_free_and_constrained_requests_run_together(bench, compiler, tokenizer):
    _, free = bench.ask(compiler, None, max_tokens=30)
    _, bound = bench.ask(compiler)
    bench.run()
    assert free.finish() == "LENGTH"
    assert len(free.tokens[0]) == 30
    json.loads(text(tokenizer, bound.tokens[0]))


def test_a_device_that_is_ahead_gives_the_same_tokens_those_that_the_host_replaces_included(
    compiler, monkeypatch
):
    """A grammar that closes in haste takes another token than the one that the device went on with."""
    replaced, substitute = [], TokenConstraint.substitute

    def watched(constraint, token_id):
        settled = substitute(constraint, token_id)
        replaced.extend([token_id] * (settled != token_id))
        return settled

    monkeypatch.setattr(TokenConstraint, "substitute", watched)
    wide = OBJECT.replace('"maxLength": 12', '"minLength": 5, "maxLength": 400')
    found = []
    for ahead in (False, True):
        bench = ConstrainedBench(ahead=ahead)
        heard = [bench.ask(compiler, wide, max_tokens=40 + number)[1] for number in range(4)]
        heard.append(bench.ask(compiler, None, max_tokens=30)[1])
        bench.run()
        found.append([(one.tokens, one.finish()) for one in heard])
        bench.check_free()
        bench.masks.close()
    assert found[0] == found[1]
    assert replaced


def test_the_tokens_are_the_same_alone_and_in_company(compiler):
    alone, together = ConstrainedBench(), ConstrainedBench()
    _, heard = alone.ask(compiler)
    alone.run()
    _, other = together.ask(compiler)
    for _ in range(3):
        together.ask(compiler, None, max_tokens=20)
    together.run()
    assert heard.tokens == other.tokens


def test_a_sequence_that_was_preempted_goes_on_in_its_grammar(compiler, tokenizer):
    # Two sequences of 70 + up to 120 tokens need 6 pages in the end.
    bench = ConstrainedBench(num_pages=5)
    wide = OBJECT.replace('"maxLength": 12', '"minLength": 150, "maxLength": 400')
    heard = [bench.ask(compiler, wide, max_tokens=190)[1] for _ in range(2)]
    bench.run()
    assert bench.engine.load.preemptions > 0, heard[0].errors
    for one in heard:
        json.loads(text(tokenizer, one.tokens[0]))
    bench.check_free()


def test_a_request_resumed_with_its_outputs_gives_the_same_rest(bench, compiler):
    _, whole = bench.ask(compiler)
    bench.run()
    tokens = whole.tokens[0]
    _, rest = bench.ask(compiler, outputs=tokens[:7])
    bench.run()
    assert rest.tokens[0] == tokens[7:]


def test_a_choice_closed_in_haste_says_so_wherever_it_is_resumed(bench, compiler):
    wide = OBJECT.replace('"maxLength": 12', '"minLength": 5, "maxLength": 400')
    for number in range(4):
        _, whole = bench.ask(compiler, wide, max_tokens=40 + number)
        bench.run()
        tokens = whole.tokens[0]
        assert whole.cut_at, "nothing was cut"
        for place in (whole.cut_at[0], whole.cut_at[-1] + 1, len(tokens) - 1):
            is_cut = place > whole.cut_at[0]
            _, rest = bench.ask(
                compiler, wide, max_tokens=40 + number, outputs=tokens[:place], output_is_cut=is_cut
            )
            bench.run()
            assert rest.tokens[0] == tokens[place:]
            assert (whole.finish(), rest.finish()) == ("LENGTH", "LENGTH")


def test_a_prompt_waits_for_its_grammar(bench, compiler):
    rules = ConstraintRules(OBJECT, False, False, False)
    request = bench.request(PROMPT, 50, rules=rules)
    bench.engine.submit(request)
    bench.run()
    assert bench.heard[request.handle].tokens.get(0) is None
    bench.engine.cancel(bench.session, request.handle)
    assert bench.heard[request.handle].finish() == "CANCELLED"


def test_a_grammar_that_cannot_be_compiled_fails_its_request_alone(bench, compiler):
    _, free = bench.ask(compiler, None, max_tokens=5)
    _, bad = bench.ask(compiler, made=InvalidRequest("no grammar", "constraint.grammar"))
    bench.run()
    assert bad.finish() == "ERROR"
    assert bad.errors[0].param == "constraint.grammar"
    assert free.finish() == "LENGTH"


def test_a_grammar_that_fails_on_the_way_fails_its_request_alone(bench, compiler, monkeypatch):
    request, bad = bench.ask(compiler)
    _, other = bench.ask(compiler)
    bench.engine.step()
    bench.engine.step()
    running = next(one for one in bench.engine._running.members if one.request is request)

    def fail(token_id, meter):
        raise ValueError("out of order")

    monkeypatch.setattr(running.constraint, "_take", fail)
    bench.run()
    assert bad.finish() == "ERROR"
    assert isinstance(bad.errors[0], InternalError)
    assert request.request_id in bad.errors[0].message
    assert other.finish() == "STOP"


def test_a_mask_that_takes_long_does_not_hold_the_others(bench, compiler, monkeypatch):
    request, slow = bench.ask(compiler)
    _, quick = bench.ask(compiler)
    bench.engine.step()
    bench.engine.step()
    running = next(one for one in bench.engine._running.members if one.request is request)
    take, stepped = running.constraint._take, threading.Condition()

    def is_behind():
        return len(quick.tokens.get(0, ())) >= 3 * len(slow.tokens.get(0, ()))

    def dawdle(token_id, meter):
        with stepped:
            stepped.wait_for(is_behind, timeout=0.2)  # not for ever: the other's mask may come next
        take(token_id, meter)

    monkeypatch.setattr(running.constraint, "_take", dawdle)
    while quick.finish() is None:
        bench.engine.step()
        with stepped:
            stepped.notify_all()
    assert len(slow.tokens[0]) < len(quick.tokens[0]) / 2
    monkeypatch.undo()
    while slow.finish() is None:
        bench.engine.step()
    assert slow.finish() == "STOP", slow.errors
