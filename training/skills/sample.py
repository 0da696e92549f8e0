"""One question with its worked answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.families.conversation import Conversation, ImagePart, Message, Part, TextPart
from training.skills.expectation import Call, Expectation
from training.skills.toolbox import Tool


@dataclass(frozen=True)
class Sample:
    """`conversation` ends where the answer begins; `reasoning` is empty unless it is thinking. `expect`: what
    makes another answer right as well.
    """

    skill: str
    conversation: Conversation
    answer: str
    expect: Expectation
    reasoning: str = ""
    calls: tuple[Call, ...] = ()


def user(*content: str | ImagePart) -> Message:
    """A turn of the user: texts and pictures."""
    parts: list[Part] = [TextPart(part) if isinstance(part, str) else part for part in content]
    return Message("user", tuple(parts))


def ask(text: str, thinking: bool) -> Conversation:
    """A conversation of one question."""
    return Conversation((user(text),), thinking=thinking)


def declare(turns: Sequence[Message], tools: Sequence[Tool], thinking: bool) -> Conversation:
    """A conversation with tools."""
    return Conversation(tuple(turns), tuple(tool.declaration() for tool in tools), thinking)
