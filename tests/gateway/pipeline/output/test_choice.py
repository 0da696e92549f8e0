"""One choice's tokens to text."""

from __future__ import annotations

import pytest

from perigee.v1 import sampling_pb2
from services.families.conversation import ToolCall
from services.families.kimi.output.parser import KimiParser
from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.pipeline.output.answer import fold
from services.gateway.pipeline.output.choice import ChoiceDecoder
from services.gateway.workers.stream.token_delta import TokenDelta
from tests.families.kimi.output.outputs import rules

STOP, LENGTH = sampling_pb2.FINISH_REASON_STOP, sampling_pb2.FINISH_REASON_LENGTH


@pytest.fixture(scope="module")
def tokenizer(nano_dir):
    return KimiTokenizer.from_dir(nano_dir)


def decoder(tokenizer, *, chat=True, **options):
    parser = KimiParser(tokenizer, options.get("stop", ()), rules("f") if chat else None)
    return ChoiceDecoder(tokenizer, 0, sampling_pb2.SamplingParams(**options), parser, silent_deltas=not chat)


async def decode(tokenizer, choice, text, *, size=1, finish=LENGTH):
    """Feeds a text's tokens, `size` to a delta, until the choice is finished; gives the folded answer."""

    async def deltas():
        ids = tokenizer.encode(text, parse_special=True)
        for start in range(0, len(ids), size):
            last = start + size >= len(ids)
            delta = TokenDelta(token_ids=ids[start : start + size])
            delta.finish_reason = finish if last else sampling_pb2.FINISH_REASON_UNSPECIFIED
            if not choice.finished:
                for news in choice.feed(delta):
                    yield news

    [answer] = await fold(deltas(), 1)
    return answer


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_the_text_does_not_depend_on_how_tokens_are_batched(tokenizer, size):
    answer = await decode(
        tokenizer, decoder(tokenizer), "Denken 日本🙂</think>Grüße 🙃!<|im_end|>", size=size, finish=STOP
    )
    assert (answer.reasoning, answer.content) == ("Denken 日本🙂", "Grüße 🙃!")
    assert answer.finish_reason == STOP


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
async def test_a_stop_string_ends_the_choice_wherever_tokens_are_cut(tokenizer, size):
    choice = decoder(tokenizer, stop=("STOP HERE",))
    answer = await decode(tokenizer, choice, "a</think>some text STOP HERE and more", size=size)
    assert (answer.content, answer.finish_reason) == ("some text ", STOP)
    assert choice.completion_tokens < len(tokenizer.encode("a</think>some text STOP HERE and more", True))


async def test_a_stop_string_in_the_reasoning_ends_nothing(tokenizer):
    answer = await decode(tokenizer, decoder(tokenizer, stop=("xyz",)), "first xyz</think>content xyz")
    assert (answer.reasoning, answer.content, answer.finish_reason) == ("first xyz", "content ", STOP)


async def test_a_stop_string_does_not_reach_over_the_end_of_the_reasoning(tokenizer):
    answer = await decode(tokenizer, decoder(tokenizer, stop=("ab",)), "xa</think>b ends")
    assert (answer.reasoning, answer.content, answer.finish_reason) == ("xa", "b ends", LENGTH)


async def test_what_might_have_become_a_stop_string_is_given_at_the_end(tokenizer):
    answer = await decode(tokenizer, decoder(tokenizer, stop=("STOP!",)), "a</think>we STOP")
    assert (answer.content, answer.finish_reason) == ("we STOP", LENGTH)


async def test_an_ending_token_is_no_text_and_is_counted(tokenizer):
    ids = tokenizer.encode("red green")
    choice = decoder(tokenizer, chat=False, stop_token_ids=(ids[-1],))
    answer = await decode(tokenizer, choice, "red green", finish=STOP)
    assert answer.content == tokenizer.decode(ids[:-1])
    assert answer.token_ids == ids
    assert choice.completion_tokens == len(ids)


async def test_the_same_token_is_text_where_it_did_not_end_the_choice(tokenizer):
    ids = tokenizer.encode("red green")
    choice = decoder(tokenizer, chat=False, stop_token_ids=(ids[-1],), min_tokens=99)
    answer = await decode(tokenizer, choice, "red green", finish=LENGTH)
    assert answer.content == "red green"


async def test_half_a_character_at_the_end_becomes_a_replacement_mark(tokenizer):
    first = tokenizer.encode("日")
    cut = next((n for n in range(1, len(first)) if len(tokenizer.decode_bytes(first[:n])) < 3), None)
    if cut is None:
        pytest.skip("this vocabulary has a token for the whole character")
    choice = decoder(tokenizer, chat=False)
    delta = TokenDelta(token_ids=first[:cut], finish_reason=LENGTH)
    [text, end] = choice.feed(delta)
    assert (text.content, end.content, end.finish_reason) == ("\ufffd", "", LENGTH)


async def test_the_raw_door_knows_no_reasoning(tokenizer):
    choice = decoder(tokenizer, chat=False)
    answer = await decode(tokenizer, choice, "<think>a</think>b<|im_end|>c")
    assert (answer.reasoning, answer.content) == ("", "<think>a</think>bc")
    assert choice.reasoning_tokens == 0


async def test_reasoning_tokens_end_with_the_reasoning(tokenizer):
    choice = decoder(tokenizer)
    await decode(tokenizer, choice, "think</think>then speak at length")
    assert choice.reasoning_tokens == len(tokenizer.encode("think</think>", True))
    without_end = decoder(tokenizer)
    await decode(tokenizer, without_end, "only thoughts")
    assert without_end.reasoning_tokens == without_end.completion_tokens


SECTION = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}"
    "<|tool_call_end|><|tool_calls_section_end|>"
)


async def test_a_choice_that_called_tools_and_stopped_says_so(tokenizer):
    answer = await decode(tokenizer, decoder(tokenizer), f"think{SECTION}<|im_end|>", finish=STOP)
    assert (answer.reasoning, answer.content) == ("think", "")
    assert answer.calls == [ToolCall("functions.f:0", "f", "{}")]
    assert answer.finish_reason == sampling_pb2.FINISH_REASON_TOOL_CALLS


async def test_one_that_was_cut_behind_its_calls_says_length(tokenizer):
    answer = await decode(tokenizer, decoder(tokenizer), f"think{SECTION}", finish=LENGTH)
    assert len(answer.calls) == 1
    assert answer.finish_reason == LENGTH


async def test_a_stop_token_of_the_callers_ends_a_choice_with_calls_as_the_models_own_does(tokenizer):
    end = tokenizer.special.tool_calls_section_end
    choice = decoder(tokenizer, stop_token_ids=(end,))
    answer = await decode(tokenizer, choice, SECTION, finish=STOP)
    assert answer.finish_reason == sampling_pb2.FINISH_REASON_TOOL_CALLS


async def test_the_raw_door_knows_no_tool_calls(tokenizer):
    answer = await decode(tokenizer, decoder(tokenizer, chat=False), SECTION)
    assert (answer.content, answer.calls) == (SECTION, [])


async def test_every_token_has_its_logprobs_with_its_text_its_call_or_the_end(tokenizer):
    ids = tokenizer.encode(f"think{SECTION}more", parse_special=True)
    choice = decoder(tokenizer, logprobs=True)
    news = []
    for index, token_id in enumerate(ids):
        delta = TokenDelta(token_ids=[token_id])
        sampled = sampling_pb2.TokenLogprob(token_id=token_id)
        delta.logprobs = (*delta.logprobs, sampling_pb2.PositionLogprobs(sampled=sampled))
        delta.finish_reason = LENGTH if index == len(ids) - 1 else sampling_pb2.FINISH_REASON_UNSPECIFIED
        news += choice.feed(delta)
    found = {
        "text": tokenizer.encode("think"),
        "call": ids[ids.index(tokenizer.special.tool_calls_section_begin) : _behind_the_call(tokenizer, ids)],
        "end": ids[_behind_the_call(tokenizer, ids) :],
    }
    for delta in news:
        kind = "text" if delta.reasoning else "call" if delta.call else "end"
        for position in delta.logprobs:
            assert found[kind].pop(0) == position.sampled.token_id
    assert not any(found.values())


def _behind_the_call(tokenizer, ids):
    return ids.index(tokenizer.special.tool_call_end) + 1


@pytest.mark.parametrize("size", [1, 1000])
async def test_the_end_of_a_grammar_that_closed_in_haste_is_no_text(tokenizer, size):
    ids = tokenizer.encode('{"a": 1}<|im_end|>', parse_special=True)
    choice = shown(tokenizer)

    async def deltas():
        for start in range(0, len(ids), size):
            delta = TokenDelta(token_ids=ids[start : start + size], is_cut=start == 0)
            if start + size >= len(ids):
                delta.finish_reason = LENGTH
            for news in choice.feed(delta):
                yield news

    [answer] = await fold(deltas(), 1)
    assert (answer.content, answer.finish_reason) == ('{"a": 1}', LENGTH)
    assert choice.completion_tokens == len(ids)


async def test_an_end_that_the_caller_ignores_is_text_where_the_budget_ends(tokenizer):
    choice = shown(tokenizer, ignore_eos=True)
    assert (await decode(tokenizer, choice, "a<|im_end|>")).content == "a<|im_end|>"


def shown(tokenizer, **options):
    """Special tokens are text."""
    sampling = sampling_pb2.SamplingParams(keep_special_tokens=True, **options)
    return ChoiceDecoder(tokenizer, 0, sampling, KimiParser(tokenizer, (), None, ()), silent_deltas=True)
