from __future__ import annotations

import pytest

from services.common.kimi.tokenizer import Tokenizer
from services.gateway.chat.reasoning import Channel, ReasoningSplitter


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> Tokenizer:
    return Tokenizer.from_dir(nano_dir)


def split(tokenizer, text, *, thinking):
    """Reasoning and content of an output in which special-token strings are control tokens."""
    splitter = ReasoningSplitter(tokenizer.special, thinking=thinking)
    parts = {channel: [] for channel in Channel}
    for token_id in tokenizer.encode(text, parse_special=True):
        channel = splitter.feed(token_id)
        if channel is not None:
            parts[channel].append(token_id)
    return tokenizer.decode(parts[Channel.REASONING]), tokenizer.decode(parts[Channel.CONTENT])


SECTION = "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}"


@pytest.mark.parametrize(
    ("output", "reasoning", "content"),
    [
        ("I think.</think>Hello", "I think.", "Hello"),
        ("<think>I think.</think>Hello", "I think.", "Hello"),
        ("<think><think>I think.</think>Hello", "I think.", "Hello"),
        ("</think>Hello", "", "Hello"),
        (" \n</think>\n Hello\n", " \n", "\n Hello\n"),
        ("cut off", "cut off", ""),
        ("", "", ""),
        (f"call{SECTION}", "call", SECTION),
        (f"draft{SECTION}</think>Hello", "draft", f"{SECTION}Hello"),
        (f"r</think>c{SECTION}", "r", f"c{SECTION}"),
        ("a<|tool_call_begin|>b</think>c", "a<|tool_call_begin|>b", "c"),
        ("a<think>b</think>c<think>d</think>e", "a<think>b", "c<think>de"),
    ],
)
def test_a_thinking_output_is_split_at_the_first_marker(tokenizer, output, reasoning, content):
    assert split(tokenizer, output, thinking=True) == (reasoning, content)


@pytest.mark.parametrize(
    ("output", "content"),
    [("Hello", "Hello"), ("a</think>b", "ab"), ("<think></think>a", "a"), (f"a{SECTION}", f"a{SECTION}")],
)
def test_an_instant_output_is_all_content(tokenizer, output, content):
    assert split(tokenizer, output, thinking=False) == ("", content)


def test_markers_spelt_in_ordinary_tokens_do_not_end_reasoning(tokenizer):
    splitter = ReasoningSplitter(tokenizer.special, thinking=True)
    channels = {splitter.feed(token_id) for token_id in tokenizer.encode("a</think>b")}
    assert channels == {Channel.REASONING}
    assert splitter.channel is Channel.REASONING
