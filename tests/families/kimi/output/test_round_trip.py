"""Messages encoded as the model would write them, cut anywhere, and read again."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.families.kimi.tokenizer import KimiTokenizer
from tests.families.kimi.output.outputs import LENGTH, STOP, Message, choice_of, read, rules

NAMES = ("search", "a.b.c", "get-weather", "über_straße", "天気", "f")
PIECES = (
    "the ", "word", " \n", "{", "}", '"', "\\", ":", "functions.", "f:0", "é", "日本語", "🙂", "👩‍👩‍👧", "\t",
    "<think>", "</think>", "<|im_end|>", "<|tool_calls_section_begin|>", "<|tool_call_section_begin|>",
    "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>", "<|tool_calls_section_end|>",
)  # fmt: skip
NUM_MESSAGES, NUM_SPLITS = 1_250, 4


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


def encode_message(
    tokenizer: KimiTokenizer, message: Message, *, thinking: bool, closed: bool = True
) -> list[int]:
    """As the model writes it; markers are the only control tokens. `closed`: with `</think>`."""
    special, encode = tokenizer.special, tokenizer.encode
    ids = encode(message.reasoning)
    if thinking and closed:
        ids.append(special.end_think)
    ids += encode(message.content)
    if message.calls:
        ids.append(special.tool_calls_section_begin)
        for call_id, _, arguments in message.calls:
            ids += [special.tool_call_begin, *encode(call_id), special.tool_call_argument_begin]
            ids += [*encode(arguments), special.tool_call_end]
        ids.append(special.tool_calls_section_end)
    return [*ids, special.im_end]


def some_text(draw: random.Random) -> str:
    return "".join(draw.choices(PIECES, k=draw.choice((0, 0, 1, 2, 4))))


def some_value(draw: random.Random, depth: int) -> object:
    if depth and draw.random() < 0.5:
        items = [some_value(draw, depth - 1) for _ in range(draw.randrange(3))]
        return items if draw.random() < 0.5 else {some_text(draw): item for item in items}
    return draw.choice((some_text(draw), draw.randrange(1000), 1.5, True, None))


def some_message(draw: random.Random, *, thinking: bool, first_index: int) -> Message:
    calls = []
    for index in range(draw.choice((0, 0, 1, 1, 2, 3))):
        name = draw.choice(NAMES)
        fields = {some_text(draw): some_value(draw, 2) for _ in range(draw.randrange(3))}
        arguments = json.dumps(fields, ensure_ascii=draw.random() < 0.5)
        calls.append((f"functions.{name}:{first_index + index}", name, arguments))
    return Message(
        reasoning=some_text(draw) if thinking else "",
        content=some_text(draw),
        calls=tuple(calls),
        finish="tool_calls" if calls else "stop",
    )


def some_cuts(draw: random.Random, length: int) -> Sequence[int]:
    if draw.random() < 0.1:
        return range(1, length)
    return sorted(draw.choices(range(length + 1), k=draw.randrange(6)))


def check(tokenizer: KimiTokenizer, draw: random.Random, num_splits: int) -> None:
    """One message: read whole, it is what was written; read in pieces, it is the same. So is its beginning.

    These are two pairs per split.
    """
    thinking, first_index = draw.random() < 0.7, draw.choice((0, 0, 7))
    message = some_message(draw, thinking=thinking, first_index=first_index)
    forgotten = thinking and not message.content and bool(message.calls) and draw.random() < 0.5
    ids = encode_message(tokenizer, message, thinking=thinking, closed=not forgotten)

    def parsed(token_ids: Sequence[int], cuts: Sequence[int], finish: int) -> Message:
        given = rules(*NAMES, in_reasoning=thinking, first_index=first_index)
        return read(choice_of(tokenizer, given), token_ids, cuts, finish)

    assert parsed(ids, (), STOP) == message
    begin = ids[: draw.randrange(len(ids))]
    beginning = parsed(begin, (), LENGTH)
    assert beginning.finish == "length"
    assert beginning.calls == message.calls[: len(beginning.calls)]
    for _ in range(num_splits):
        assert parsed(ids, some_cuts(draw, len(ids)), STOP) == message
        assert parsed(begin, some_cuts(draw, len(begin)), LENGTH) == beginning


def test_ten_thousand_messages_and_splits_give_what_was_written_streamed_or_not(tokenizer):
    draw = random.Random(5)
    for _ in range(NUM_MESSAGES):
        check(tokenizer, draw, NUM_SPLITS)


def test_so_with_the_published_tokenizer(shared_dir):
    published = KimiTokenizer.from_dir(shared_dir / "data" / "kimi-k2.5")
    draw = random.Random(6)
    for _ in range(25):
        check(published, draw, 4)


TEXTS = st.lists(st.text(max_size=8) | st.sampled_from(PIECES), max_size=6).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda value: st.lists(value, max_size=3) | st.dictionaries(TEXTS, value, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(st.tuples(st.sampled_from(NAMES), st.dictionaries(TEXTS, JSON, max_size=3)), max_size=3)


@settings(max_examples=50, deadline=None)
@given(reasoning=TEXTS, content=TEXTS, made=CALLS, data=st.data())
def test_any_message_is_read_as_written_however_it_is_cut(tokenizer, reasoning, content, made, data):
    calls = tuple(
        (f"functions.{name}:{index}", name, json.dumps(fields, ensure_ascii=False))
        for index, (name, fields) in enumerate(made)
    )
    message = Message(reasoning, content, calls, "tool_calls" if calls else "stop")
    ids = encode_message(tokenizer, message, thinking=True)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    assert read(choice_of(tokenizer, rules(*NAMES)), ids, cuts) == message


@pytest.mark.parametrize("streamed", [(), ("f",)])
def test_any_soup_of_tokens_gives_the_same_message_however_it_is_cut_and_leaks_no_marker(tokenizer, streamed):
    draw = random.Random(7)
    special = tokenizer.special
    markers = [
        special.think, special.end_think, special.tool_calls_section_begin, special.tool_calls_section_end,
        special.tool_call_begin, special.tool_call_argument_begin, special.tool_call_end, special.im_user,
    ]  # fmt: skip
    bytes_alone = [token for token in range(tokenizer.num_ranks) if len(tokenizer.token_bytes(token)) == 1]
    ordinary = tokenizer.encode('f functions.f:0 {"a": 1} 日本') + draw.sample(bytes_alone, 20)
    for _ in range(500):
        ids = [draw.choice(markers if draw.random() < 0.4 else ordinary) for _ in range(draw.randrange(40))]
        finish = draw.choice((STOP, LENGTH))
        whole = read(choice_of(tokenizer, rules("f", streamed=streamed)), ids, (), finish)
        cuts = some_cuts(draw, len(ids))
        assert read(choice_of(tokenizer, rules("f", streamed=streamed)), ids, cuts, finish) == whole
        texts = [whole.reasoning, whole.content, *(text for call in whole.calls for text in call)]
        assert not any(tokenizer.decode([marker]) in text for marker in markers for text in texts)
        assert all(name == "f" for _, name, _ in whole.calls)


def test_arguments_of_any_length_and_depth_come_whole(tokenizer):
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"a": [deep]}
    for fields in ({"code": "x = 1\n" * 20_000}, deep):
        arguments = json.dumps(fields)
        message = Message("", "", (("functions.f:0", "f", arguments),), "tool_calls")
        ids = encode_message(tokenizer, message, thinking=False)
        given = rules("f", in_reasoning=False)
        assert read(choice_of(tokenizer, given), ids, range(0, len(ids), 100)) == message


def test_a_deeply_nested_call_without_an_end_marker_is_dropped_not_an_error(tokenizer):
    special = tokenizer.special
    ids = [
        special.tool_calls_section_begin, special.tool_call_begin, *tokenizer.encode("f"),
        special.tool_call_argument_begin, *tokenizer.encode('{"a":' * 10_000),
    ]  # fmt: skip
    assert read(choice_of(tokenizer, rules("f")), ids) == Message()
