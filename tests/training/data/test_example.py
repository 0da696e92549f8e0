"""Samples become the tokens that the served model sees and says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.families.conversation import Message, TextPart, ToolCall
from services.families.kimi.chat.prompt import render
from services.families.kimi.chat.template import lay_out
from services.families.kimi.output.parser import KimiParser
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.kimi.tools.declaration import declared_names
from services.families.output import CallRules, OutputRules
from training.data.example import answer_segments, encode_sample
from training.skills.curriculum import Curriculum
from training.skills.dice import Dice
from training.skills.exchange import Exchanges
from training.skills.lexicon import Lexicon
from training.skills.split import Split
from training.skills.tool_results import make_weather_result
from training.skills.toolbox import Toolbox

CURRICULUM = Curriculum(1)


@pytest.fixture(scope="module")
def tokenizer(nano_dir):
    return KimiTokenizer.from_dir(nano_dir)


def test_a_calling_answer_is_laid_out_as_the_template_lays_out_past_ones():
    for number in range(20):
        sample = CURRICULUM.case("parallel calls", number)
        calls = tuple(
            ToolCall(f"functions.{call.name}:{index}", call.name, call.arguments)
            for index, call in enumerate(sample.calls)
        )
        past = Message("assistant", reasoning_content=sample.reasoning, tool_calls=calls)
        turns = sample.conversation.with_messages((*sample.conversation.messages, past))
        whole = "".join(segment.text for segment in lay_out(turns))
        ours = [*lay_out(sample.conversation), *answer_segments(sample)]
        assert whole.startswith("".join(segment.text for segment in ours))


@pytest.mark.parametrize("skill", ["compare", "stories", "tool call", "weather result", "chatter"])
def test_the_answer_behind_the_rendered_prompt_splits_into_reasoning_and_content(tokenizer, skill):
    for number in range(10):
        sample = CURRICULUM.case(skill, number)
        example = encode_sample(sample, tokenizer)
        assert example.token_ids[: example.answer_start] == render(sample.conversation, tokenizer).token_ids
        *said, last = example.token_ids[example.answer_start :]
        assert last in tokenizer.stop_ids
        conversation = sample.conversation
        rules = OutputRules(
            conversation.starts_in_reasoning,
            calls=CallRules(declared_names(conversation.tools), conversation.num_calls),
        )
        parser = KimiParser(tokenizer, (), rules)
        for token_id in said:
            parser.feed(token_id)
        parser.end(by_model=True)
        message = parser.take()
        assert (message.reasoning, message.content) == (sample.reasoning, sample.answer)
        assert [call.name for call in message.calls if call.name] == [call.name for call in sample.calls]


@pytest.mark.parametrize("thinking", [False, True])
def test_the_assistants_earlier_turns_are_trained_from_where_it_would_have_gone_on(tokenizer, thinking):
    exchanges = Exchanges(Toolbox(Lexicon()), Lexicon())
    for number in range(20):
        sample = make_weather_result(Dice(number), Split.TRAIN, thinking, exchanges)
        turns = sample.conversation.messages
        example = encode_sample(sample, tokenizer)
        answers = iter(example.answers)
        assert len(example.answers) == 1 + sum(turn.role == "assistant" for turn in turns)
        for index, turn in enumerate(turns):
            if turn.role == "assistant":
                # What the server would have sent to the model, and what the model would have said to that.
                before = sample.conversation.with_messages(turns[:index])
                as_asked = replace(before, thinking=bool(turn.reasoning_content))
                prompt = render(as_asked, tokenizer).token_ids
                start, end = next(answers)
                assert example.token_ids[:start] == prompt
                assert example.token_ids[end - 1] in tokenizer.stop_ids
        assert example.last_answer().answers == ((example.answer_start, len(example.token_ids)),)


def test_media_pads_are_as_many_as_the_pictures_have_tokens(tokenizer):
    for number in range(5):
        example = encode_sample(CURRICULUM.case("totals", number), tokenizer)
        pads = example.token_ids.count(tokenizer.special.media_pad)
        assert pads == sum(picture.num_tokens for picture in example.pictures) > 0


def test_a_call_after_earlier_ones_goes_on_counting(tokenizer):
    sample = CURRICULUM.case("tool call", 1)
    past = Message("assistant", tool_calls=(ToolCall("functions.a:0", "a"), ToolCall("functions.a:1", "a")))
    turns = (Message("user", (TextPart("x"),)), past, *sample.conversation.messages)
    later = replace(sample, conversation=sample.conversation.with_messages(turns))
    name = sample.calls[0].name
    assert any(segment.text == f"functions.{name}:2" for segment in answer_segments(later))
