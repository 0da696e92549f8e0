"""A stepper that gives several tokens a step answers every request as one that gives one token at a time.

Every test runs the same requests on both, and compares all that a gateway gets and all that the cache keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from perigee.v1 import sampling_pb2
from services.common.errors import InternalError
from services.common.page_hash import chain_hashes
from services.decode.request import Delta
from services.decode.server import to_response
from services.engine.sampling.sampler import SampledToken
from tests.decode.constraint.test_engine import OBJECT, PROMPT, ConstrainedBench
from tests.support.babbler import VOCAB, Babbler
from tests.support.burst_stepper import BurstStepper
from tests.support.decode_bench import Bench, Heard, prompt_of
from tests.support.fake_runner import greedy, read_context

STEPPERS = {
    "1 token": partial(BurstStepper, burst=1),
    "2 tokens": partial(BurstStepper, burst=2),
    "5 tokens": partial(BurstStepper, burst=5),
    "2 tokens, overlapped": partial(BurstStepper, burst=2, overlaps=True),
    "5 tokens, overlapped": partial(BurstStepper, burst=5, overlaps=True),
}
RANDOM = {"temperature": 1.0, "frequency_penalty": 0.7, "presence_penalty": 0.3, "repetition_penalty": 1.3}
LOGPROBS = {"logprobs": True, "top_logprobs": 3}


@pytest.fixture(params=list(STEPPERS))
def stepper(request):
    return STEPPERS[request.param]


def wordy(num_pages: int, **options) -> Bench:
    """A bench whose model may say anything."""
    return Bench(num_pages, runner=Babbler, vocab_size=VOCAB, local_prefill_tokens=1000, **options)


def plain(num_pages: int, **options) -> Bench:
    """A bench whose tokens show whether the right pages were read."""
    return Bench(num_pages, local_prefill_tokens=1000, **options)


def answer(heard: Heard) -> dict[str, object]:
    """What a request's gateway got, however it was divided into deltas and whatever time it took."""
    return {
        "tokens": heard.tokens,
        "logprobs": heard.logprobs,
        "finishes": heard.finishes,
        "cuts": bool(heard.cut_at),
        "errors": [(type(error), error.message) for error in heard.errors],
        "stats": [
            {name: value for name, value in vars(stats).items() if not name.endswith("_s")}
            for stats in heard.stats
        ],
    }


def page_hashes(bench: Bench) -> set[bytes]:
    """The hashes of all cached pages."""
    return set(bench.engine._pages.cache._page_of)


def tails(bench: Bench) -> dict[bytes, tuple[int, ...]]:
    """The tokens of the pages in part that are cached, by what they go on from."""
    return {parent: tail.token_ids for parent, tail in bench.engine._pages.cache._tail_of.items()}


def compare(make: Callable[..., Bench], stepper, scenario: Callable[[Bench], list[Heard]]) -> list[Heard]:
    """Runs a scenario with both steppers; returns the answers, which are the same."""
    expected_bench, bench = make(), make(stepper=stepper)
    expected, found = scenario(expected_bench), scenario(bench)
    assert [answer(heard) for heard in found] == [answer(heard) for heard in expected]
    assert page_hashes(bench) == page_hashes(expected_bench)
    if len(found) == len(found[0].tokens) == 1:  # of several that end in one page, the last one's tail stays
        assert tails(bench) == tails(expected_bench)
    check_states(bench)
    bench.check_free()
    return found


def check_states(bench: Bench) -> None:
    """What was discarded is in no sequence and in no sampling state."""
    for sequence in bench.stepper.sequences:
        outputs = sequence.context[len(sequence.request.prompt_ids) :]
        sent = bench.heard[sequence.request.handle].tokens[sequence.choice]
        assert sequence.sampling.output_ids == outputs == [*sequence.request.output_ids, *sent]


@pytest.mark.parametrize("place", range(7))
def test_a_stop_token_ends_a_choice_wherever_it_stands_in_a_burst(stepper, place):
    tokens = greedy([5], 12)
    stop = tokens[place]

    def scenario(bench):
        heard = bench.submit([5], 12, stop=[stop])
        bench.run()
        return [heard]

    [heard] = compare(partial(plain, 4), stepper, scenario)
    assert heard.finish() == "STOP"
    assert heard.tokens[0] == tokens[: tokens.index(stop) + 1]


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 5, 6, 9, 11])
def test_max_tokens_ends_a_choice_in_the_middle_of_a_burst(stepper, max_tokens):
    def scenario(bench):
        heard = bench.submit(prompt_of(20), max_tokens)
        bench.run()
        return [heard]

    [heard] = compare(partial(plain, 4), stepper, scenario)
    assert heard.finish() == "LENGTH"
    assert heard.tokens[0] == greedy(prompt_of(20), max_tokens)


def test_a_choice_that_fills_the_context_and_the_last_page_needs_no_page_beyond(stepper):
    def scenario(bench):
        heard = bench.submit(prompt_of(120), 100)
        bench.run()
        return [heard]

    [heard] = compare(partial(plain, 2), stepper, scenario)
    assert heard.tokens[0] == greedy(prompt_of(120), 8)
    assert heard.finish() == "LENGTH"


@pytest.mark.parametrize("length", range(60, 67))
@pytest.mark.parametrize("max_tokens", [3, 4, 5, 70])
def test_a_page_that_a_burst_makes_whole_is_cached_with_the_same_hash(stepper, length, max_tokens):
    def scenario(bench):
        first = bench.submit(prompt_of(length), max_tokens)
        bench.run()
        turn = [*prompt_of(length), *first.tokens[0], 1, 2, 3]
        second = bench.submit(turn, 6)
        bench.run()
        return [first, second]

    first, second = compare(partial(plain, 8), stepper, scenario)
    context = [*prompt_of(length), *first.tokens[0]]
    assert second.stats[0].cached_tokens == len(context) - 1, "the last token's KV was never computed"
    assert second.tokens[0] == greedy([*context, 1, 2, 3], 6)


def test_no_page_is_cached_for_discarded_tokens(stepper):
    """The stop token stands at the end of a page, so that a burst makes the page whole behind the end."""
    tokens = greedy(prompt_of(10), 54)
    bench = plain(8, stepper=stepper)
    heard = bench.submit(prompt_of(10), 60, stop=[tokens[-1]])
    bench.run()
    context = [*prompt_of(10), *heard.tokens[0]]
    assert page_hashes(bench) == set(chain_hashes(context[:-1], [], ""))
    bench.check_free()


def test_draws_penalties_and_log_probabilities_are_those_of_single_tokens(stepper):
    def scenario(bench):
        heard = [
            bench.submit(prompt_of(30, seed), 23, n=3, sampling={**RANDOM, **LOGPROBS, "min_tokens": 4})
            for seed in range(2)
        ]
        bench.run()
        return heard

    heard = compare(partial(wordy, 32), stepper, scenario)
    assert len({tuple(tokens) for one in heard for tokens in one.tokens.values()}) == 6
    assert all(len(one.logprobs[choice]) == 23 for one in heard for choice in range(3))


def test_each_of_three_choices_ends_where_it_would_alone(stepper):
    def scenario(bench):
        probe = bench.submit(prompt_of(30), 40, n=3, sampling=RANDOM)
        bench.run()
        stop = [probe.tokens[choice][5 + 4 * choice] for choice in range(2)]
        heard = bench.submit(prompt_of(30), 40, n=3, stop=stop, sampling=RANDOM)
        bench.run()
        return [probe, heard]

    _, heard = compare(partial(wordy, 32), stepper, scenario)
    assert {heard.finish(choice) for choice in range(3)} >= {"STOP"}
    assert len({len(heard.tokens[choice]) for choice in range(3)}) > 1


@pytest.mark.parametrize("max_tokens", [200, 43, 42, 41])
def test_a_grammar_ends_a_choice_and_cuts_it_short_as_with_single_tokens(stepper, compiler, max_tokens):
    """The tokens that a grammar replaces are told as such, and a choice cut short ends by its length."""
    wide = OBJECT.replace('"maxLength": 12', '"minLength": 5, "maxLength": 400')

    def scenario(bench):
        heard = [bench.ask(compiler, wide, max_tokens=max_tokens)[1]]
        heard.append(bench.ask(compiler, OBJECT, max_tokens=max_tokens, n=3)[1])
        heard.append(bench.ask(compiler, None, max_tokens=17)[1])
        bench.run()
        bench.masks.close()
        return heard

    wide_one, several, _ = compare(ConstrainedBench, stepper, scenario)
    if max_tokens == 200:
        assert several.finish() == "STOP"
    else:
        assert wide_one.cut_at
        assert wide_one.finish() == "LENGTH"


def test_a_grammar_that_begins_in_a_burst_may_end_in_it(compiler):
    """The end of reasoning, the only token of the grammar and the end of the turn come in one step."""
    markers = compiler.vocabulary.markers
    end_reasoning = markers.end_reasoning

    class Scripted(Babbler):
        def logits_of(self, pages, length):
            logits = super().logits_of(pages, length)
            script = {len(PROMPT) + 1: end_reasoning}
            if length in script:
                logits[script[length]] = 1000.0
            return logits

    answers = []
    for make in (None, partial(BurstStepper, burst=5)):
        bench = ConstrainedBench(runner=Scripted, stepper=make)
        heard = bench.ask(compiler, 'start: "a"', max_tokens=20, in_reasoning=True)[1]
        bench.run()
        bench.masks.close()
        answers.append(answer(heard))
        assert heard.finish() == "STOP"
        assert heard.tokens[0][1] == end_reasoning
        assert heard.tokens[0][-1] == markers.end
        assert len(heard.tokens[0]) == 4
    assert answers[0] == answers[1]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_cancelled_choice_has_got_leading_tokens_and_nothing_after_the_cancel(stepper, steps):
    bench = plain(8, stepper=stepper)
    heard = bench.submit(prompt_of(62), 50, n=2)
    for _ in range(steps + 1 + bench.stepper.overlaps):
        bench.engine.step()
    sent = [list(heard.tokens[choice]) for choice in range(2)]
    bench.engine.cancel(bench.session, 1)
    bench.run()
    for choice in range(2):
        assert heard.finish(choice) == "CANCELLED"
        assert sent[choice]
        assert heard.tokens[choice] == sent[choice] == greedy(prompt_of(62), 50)[: len(sent[choice])]
    whole = (62 + len(sent[0]) - 1) // 64 * 64
    assert page_hashes(bench) == set(chain_hashes([*prompt_of(62), *sent[0]][:whole], [], ""))
    bench.check_free()


@pytest.mark.parametrize("place", [1, 3, 4, 6, 7])
def test_a_choice_goes_on_elsewhere_from_the_middle_of_a_burst(stepper, place):
    """A worker failed before the rest of a burst had come; another one gets the tokens up to there."""
    options = {"sampling": RANDOM | LOGPROBS}

    def begin(bench):
        whole = bench.submit(prompt_of(60), 12, **options)
        bench.run()
        return [whole]

    [whole] = compare(partial(wordy, 8), stepper, begin)

    def resume(bench):
        rest = bench.submit(prompt_of(60), 12, outputs=whole.tokens[0][:place], **options)
        bench.run()
        return [rest]

    [rest] = compare(partial(wordy, 8), stepper, resume)
    assert rest.tokens[0] == whole.tokens[0][place:]
    assert rest.logprobs[0] == whole.logprobs[0][place:]
    assert rest.finish() == "LENGTH"


@pytest.mark.parametrize("place", range(4, 12))
def test_a_cut_choice_goes_on_elsewhere_from_the_middle_of_a_burst(stepper, compiler, place):
    wide = OBJECT.replace('"maxLength": 12', '"minLength": 5, "maxLength": 400')
    bench = ConstrainedBench()
    whole = bench.ask(compiler, wide, max_tokens=41)[1]
    bench.run()
    assert whole.cut_at
    begun = len(whole.tokens[0]) - place
    outputs, is_cut = whole.tokens[0][:begun], begun > whole.cut_at[0]
    other = ConstrainedBench(stepper=stepper)
    rest = other.ask(compiler, wide, max_tokens=41, outputs=outputs, output_is_cut=is_cut)[1]
    other.run()
    assert rest.tokens[0] == whole.tokens[0][begun:]
    assert rest.finish() == whole.finish() == "LENGTH"
    for each in (bench, other):
        each.masks.close()


def test_tokens_before_an_error_are_sent_before_it(stepper):
    tokens = greedy([11], 9)
    assert tokens.index(tokens[6]) == 6

    def scenario(bench):
        emit = bench.session.emit

        def watched(deltas):
            failed = {delta.handle for delta in deltas if delta.error is not None}
            assert not any(delta.is_plain and delta.handle in failed for delta in deltas), "in one response"
            emit(deltas)

        bench.session.emit = watched
        bench.runner.poison.add(tokens[6])
        bad, good = bench.submit([11], 9), bench.submit([11], 3)
        bench.run()
        return [bad, good]

    bad, good = compare(partial(plain, 8), stepper, scenario)
    assert (bad.finish(), good.finish()) == ("ERROR", "LENGTH")
    assert bad.tokens[0] == tokens[:7]
    assert [type(error) for error in bad.errors] == [InternalError]


def test_tokens_of_other_choices_are_sent_before_an_error(stepper):
    class Failing(Babbler):
        def logits_of(self, pages, length):
            logits = super().logits_of(pages, length)
            if int(read_context(self.kv_pages, pages, length)[-1]) in self.poison:
                logits[:] = float("nan")
            return logits

    options = {"n": 2, "sampling": RANDOM}
    bench = wordy(16, stepper=stepper)
    probe = bench.submit(prompt_of(30), 12, **options)
    bench.run()
    bench = Bench(16, runner=Failing, vocab_size=VOCAB, local_prefill_tokens=1000, stepper=stepper)
    place = next(place for place in range(6, 12) if probe.tokens[1][place] not in probe.tokens[0])
    bench.runner.poison.add(probe.tokens[1][place])
    emit, sent = bench.session.emit, []
    bench.session.emit = lambda deltas: (sent.append(list(deltas)), emit(deltas))
    heard = bench.submit(prompt_of(30), 12, **options)
    bench.run()
    assert heard.finish() == heard.finish(1) == "ERROR"
    assert probe.tokens[0][: len(heard.tokens[0])] == heard.tokens[0] != []
    [failing] = [deltas for deltas in sent if any(delta.error is not None for delta in deltas)]
    assert not any(delta.tokens for delta in failing)


def test_sequences_that_lose_their_pages_give_the_same_tokens_later(stepper):
    bench = plain(4, stepper=stepper)
    old, young = (bench.submit(prompt_of(40, seed), 150) for seed in (1, 2))
    bench.run()
    assert bench.engine.load.preemptions > 0
    assert old.tokens[0] == greedy(prompt_of(40, 1), 150)
    assert young.tokens[0] == greedy(prompt_of(40, 2), 150)
    check_states(bench)
    bench.check_free()


def test_a_burst_is_one_delta_and_its_tokens_are_rows_of_their_own():
    first, second = SampledToken(5), SampledToken(6)
    finish = sampling_pb2.FINISH_REASON_STOP
    response = to_response([Delta(1, 2, (first, second)), Delta(3, 0, (second, first), finish)])
    columns = response.tokens
    assert list(zip(columns.handles, columns.choices, columns.token_ids, strict=True)) == [
        (1, 2, 5),
        (1, 2, 6),
    ]
    assert [(delta.handle, list(delta.token_ids)) for delta in response.deltas] == [(3, [6, 5])]
