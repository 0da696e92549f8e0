"""A conversation as a family's chat template takes it; every door converts its own spelling to these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

# What JSON can hold, as the standard library decodes it.
Json: TypeAlias = Any


@dataclass(frozen=True)
class TextPart:
    """Text, verbatim; special-token strings in it are ordinary text."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """A picture. A template writes one media pad for it whatever `data`, the encoded file, holds."""

    data: bytes = b""


@dataclass(frozen=True)
class VideoPart:
    """A film in chunks, which begin at `timestamps`; a template writes a media pad for each."""

    timestamps: tuple[str, ...] = ()


Part: TypeAlias = TextPart | ImagePart | VideoPart


@dataclass(frozen=True)
class ToolCall:
    """A past call. `id`: as the caller gave it.

    `arguments`: text is written verbatim, any other JSON value as Python's `json.dumps` spells it.
    """

    id: str
    name: str
    arguments: Json = ""


@dataclass(frozen=True)
class Message:
    """One turn. `role`: user, assistant, or anything else (written as a system turn of that name).

    `name`: the speaker or tool; empty: the role. `reasoning_content`, `tool_calls`: assistant turns;
    `tool_call_id`: tool turns. Empty means absent everywhere; a null of the caller is empty too.
    """

    role: str
    content: tuple[Part, ...] = ()
    name: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True)
class Conversation:
    """All that a template needs. `tools`: the OpenAI `tools` array; empty: none are declared.

    `thinking`: whether the model reasons first; `add_generation_prompt`: whether the assistant's turn is
    opened; `continues`: whether the last message, an assistant's without calls, is left open instead;
    `preserve_thinking`: whether the reasoning of all past turns is written, where the template can.
    """

    messages: tuple[Message, ...]
    tools: tuple[Json, ...] = ()
    thinking: bool = True
    add_generation_prompt: bool = True
    continues: bool = False
    preserve_thinking: bool = False

    @property
    def num_calls(self) -> int:
        """How many past calls it has."""
        return sum(len(message.tool_calls) for message in self.messages)

    @property
    def starts_in_reasoning(self) -> bool:
        """Whether the answer of a model that reasons begins inside reasoning: what is left open has no
        content yet.
        """
        return self.thinking and not (self.continues and _says_something(self.messages[-1]))

    def with_messages(self, messages: tuple[Message, ...]) -> Conversation:
        """The same conversation with other turns."""
        return replace(self, messages=messages)


def _says_something(message: Message) -> bool:
    return any(not isinstance(part, TextPart) or part.text for part in message.content)
