"""One question with its worked answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.families.conversation import Conversation, ImagePart, Message, Part, TextPart
from training.skills.expectation import Call, Expectation
from training.skills.toolbox import Tool


@dataclass(frozen=True)
class Sample:
    """A conversation that ends where the answer starts, and the answer. `reasoning` is empty unless the
    conversation is in thinking mode. `expect` is the criterion by which other answers are right as well.
    """

    skill: str
    conversation: Conversation
    answer: str
    expect: Expectation
    reasoning: str = ""
    calls: tuple[Call, ...] = ()


def user(*content: str | ImagePart) -> Message:
    """A user turn of texts and pictures."""
    parts: list[Part] = [TextPart(part) if isinstance(part, str) else part for part in content]
    return Message("user", tuple(parts))


def ask(text: str, thinking: bool) -> Conversation:
    """A conversation of one question."""
    return Conversation((user(text),), thinking=thinking)


def declare(turns: Sequence[Message], tools: Sequence[Tool], thinking: bool) -> Conversation:
    """A conversation with declared tools."""
    return Conversation(tuple(turns), tuple(tool.declaration() for tool in tools), thinking)
