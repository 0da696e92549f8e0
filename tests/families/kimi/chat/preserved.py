"""Conversations whose prompt depends on the model profile, with the prompts, written out by the rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OPEN = "<|im_assistant|>assistant<|im_middle|><think>"
CALL = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.look:{index}<|tool_call_argument_begin|>"
    '{{"at": "{at}"}}<|tool_call_end|><|tool_calls_section_end|>'
)


def said(role: str, text: str) -> str:
    """A turn of the user, or of a system message or tool of that name."""
    marker = "user" if role == "user" else "system"
    return f"<|im_{marker}|>{role}<|im_middle|>{text}<|im_end|>"


def answered(reasoning: str, text: str) -> str:
    """A past turn of the assistant."""
    return f"{OPEN}{reasoning}</think>{text}<|im_end|>"


def calling(reasoning: str, index: int, at: str, text: str = "") -> str:
    """A past turn of the assistant with a call."""
    return answered(reasoning, text + CALL.format(index=index, at=at))


def result(index: int, text: str) -> str:
    """A result of a call."""
    return said("look", f"## Return of functions.look:{index}\n{text}")


def user(text: str) -> dict[str, Any]:
    """A message."""
    return {"role": "user", "content": text}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    """A message; `more`: reasoning by one of its names, calls."""
    return {"role": "assistant", "content": content, **more}


def call(index: int, at: str) -> list[dict[str, Any]]:
    """The calls of a message that makes one."""
    function = {"name": "look", "arguments": f'{{"at": "{at}"}}'}
    return [{"id": f"functions.look:{index}", "type": "function", "function": function}]


def returned(index: int, content: str) -> dict[str, Any]:
    """A message of a tool."""
    return {"role": "tool", "name": "look", "tool_call_id": f"functions.look:{index}", "content": content}


@dataclass(frozen=True)
class Case:
    """`dropped`: the prompt if only the open tool round keeps its reasoning; `kept`: if all turns do."""

    name: str
    messages: tuple[dict[str, Any], ...]
    dropped: str
    kept: str
    profiles: tuple[str, ...] = field(default=("k2.5", "k2.6", "k2.7-code"))


_TWO_ROUNDS = (
    user("Oslo?"),
    assistant("", reasoning_content="r0", tool_calls=call(0, "Oslo")),
    returned(0, "snow"),
    assistant("Snow.", reasoning_content="r1"),
    user("Rome?"),
    assistant("Let me see.", reasoning_content="r2", tool_calls=call(1, "Rome")),
    returned(1, "sun"),
)
CASES = (
    Case(
        "an answer with reasoning",
        (user("Hi"), assistant("Hello!", reasoning_content="a greeting"), user("And?")),
        said("user", "Hi") + answered("", "Hello!") + said("user", "And?") + OPEN,
        said("user", "Hi") + answered("a greeting", "Hello!") + said("user", "And?") + OPEN,
    ),
    Case(
        "answers without reasoning, and with an empty one",
        (user("1"), assistant("a"), user("2"), assistant("b", reasoning_content=""), user("3")),
        said("user", "1") + answered("", "a") + said("user", "2") + answered("", "b")
        + said("user", "3") + OPEN,
        said("user", "1") + answered("", "a") + said("user", "2") + answered("", "b")
        + said("user", "3") + OPEN,
    ),
    Case(
        "an open tool round behind a closed one",
        _TWO_ROUNDS,
        said("user", "Oslo?") + calling("", 0, "Oslo") + result(0, "snow") + answered("", "Snow.")
        + said("user", "Rome?") + calling("r2", 1, "Rome", "Let me see.") + result(1, "sun") + OPEN,
        said("user", "Oslo?") + calling("r0", 0, "Oslo") + result(0, "snow") + answered("r1", "Snow.")
        + said("user", "Rome?") + calling("r2", 1, "Rome", "Let me see.") + result(1, "sun") + OPEN,
    ),
    Case(
        "the user speaks inside an open round, after a system message with nothing in it",
        ({"role": "system", "content": ""}, *_TWO_ROUNDS[:3], user("And Bergen?")),
        said("system", "") + said("user", "Oslo?") + calling("r0", 0, "Oslo") + result(0, "snow")
        + said("user", "And Bergen?") + OPEN,
        said("system", "") + said("user", "Oslo?") + calling("r0", 0, "Oslo") + result(0, "snow")
        + said("user", "And Bergen?") + OPEN,
    ),
    Case(
        "reasoning verbatim, white space and all",
        (user("Hi"), assistant("Hello!", reasoning_content=" \n two\nlines \n"), user("And?")),
        said("user", "Hi") + answered("", "Hello!") + said("user", "And?") + OPEN,
        said("user", "Hi") + answered(" \n two\nlines \n", "Hello!") + said("user", "And?") + OPEN,
    ),
    Case(
        "both names of reasoning: that of K2.6 wins",
        (user("Hi"), assistant("", reasoning="new", reasoning_content="old", tool_calls=call(0, "x"))),
        said("user", "Hi") + calling("new", 0, "x") + OPEN,
        said("user", "Hi") + calling("new", 0, "x") + OPEN,
        profiles=("k2.6", "k2.7-code"),
    ),
    Case(
        "both names of reasoning: that of K2.6 wins though it is empty",
        (user("Hi"), assistant("", reasoning="", reasoning_content="old", tool_calls=call(0, "x"))),
        said("user", "Hi") + calling("", 0, "x") + OPEN,
        said("user", "Hi") + calling("", 0, "x") + OPEN,
        profiles=("k2.6", "k2.7-code"),
    ),
    Case(
        "both names of reasoning: null is absent",
        (user("Hi"), assistant("", reasoning=None, reasoning_content="old", tool_calls=call(0, "x"))),
        said("user", "Hi") + calling("old", 0, "x") + OPEN,
        said("user", "Hi") + calling("old", 0, "x") + OPEN,
    ),
    Case(
        "both names of reasoning: that of K2.5 wins",
        (user("Hi"), assistant("", reasoning="new", reasoning_content="old", tool_calls=call(0, "x"))),
        said("user", "Hi") + calling("old", 0, "x") + OPEN,
        said("user", "Hi") + calling("old", 0, "x") + OPEN,
        profiles=("k2.5",),
    ),
)  # fmt: skip
