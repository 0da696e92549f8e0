"""An answer taken apart: what a family's parser is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal, NamedTuple, Protocol, TypeAlias

from services.families.conversation import Json


class TextKind(Enum):
    """What the text of an answer is shown as."""

    REASONING = auto()
    CONTENT = auto()


# Given the name and the arguments of a finished call of a declared tool: whether it may be released. What it
# raises, the request fails with.
CallCheck: TypeAlias = Callable[[str, str], bool]


def accept_all(name: str, arguments: str) -> bool:
    """The check that finds nothing wrong."""
    return True


# Why a call is dropped: no tool that may be called is meant, or it is not written as calls are.
DropReason: TypeAlias = Literal["no_tool", "malformed"]


def ignore_drop(reason: DropReason) -> None:
    """For who does not count dropped calls."""


def ignore_show(name: str) -> None:
    """For who does not count shown calls."""


@dataclass(frozen=True)
class CallRules:
    """`tools`: the names that may be called; `streamed`: those of them whose calls cannot fail the check, so
    that their arguments are shown as they come; `schemas`: the parameters of tools whose schemas are known;
    `first_index`: the number in the id of the answer's first call. `on_drop` is called for each dropped call,
    `on_show` with the tool's name for each call that is shown.
    """

    tools: frozenset[str] = frozenset()
    first_index: int = 0
    accept: CallCheck = accept_all
    schemas: Mapping[str, Json] = field(default_factory=dict)
    on_drop: Callable[[DropReason], None] = ignore_drop
    streamed: frozenset[str] = frozenset()
    on_show: Callable[[str], None] = ignore_show


@dataclass(frozen=True)
class CallPiece:
    """A piece of a call. All pieces of a call come before the next call's first one.

    `index`: the call's place in the message, from 0. The first piece has `id`, as the family spells it and as
    the next turn's history will have it, the whole `name`, and no arguments; the others have neither.
    `arguments`: to be appended; together JSON text as the model wrote it, usually an object.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True)
class OutputRules:
    """How an output is taken apart.

    `in_reasoning`: whether it begins inside reasoning. `separate_reasoning`: False: reasoning is content, its
    markers included. `stream_reasoning`: False: reasoning comes in one piece when it ends. `calls`: None:
    tool sections are content, markers included.
    """

    in_reasoning: bool = True
    separate_reasoning: bool = True
    stream_reasoning: bool = True
    calls: CallRules | None = field(default_factory=CallRules)


class Piece(NamedTuple):
    """The new parts of a message; the receiver appends each of them."""

    reasoning: str
    content: str
    calls: tuple[CallPiece, ...]


class OutputParser(Protocol):
    """Fed with one output's tokens in order, the one that ends it left out; then told that it ended.

    The message is the concatenation of what `take` gives, however often it is called.
    """

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens were reasoning so far, the marker that ended it included."""

    @property
    def num_calls(self) -> int:
        """How many calls were shown so far."""

    @property
    def is_unfinished(self) -> bool:
        """Whether a call was shown that has not come to its end."""

    @property
    def text_kind(self) -> TextKind | None:
        """What text would be shown as here. None: not at all, or as part of a call."""

    @property
    def matched_stop(self) -> str:
        """The stop string that ended the output; empty: none did."""

    @property
    def num_characters(self) -> int:
        """Characters of the text of all tokens so far: reasoning and content, certain or not."""

    @property
    def inside(self) -> bool:
        """Whether a character of the text has begun that is not finished yet."""

    @property
    def plain(self) -> TextKind | None:
        """What tokens that are whole characters would be, each for itself and at once; None: not every one.

        It stays as it is until `feed`, `end` or `take` is called.
        """

    def count_plain(self) -> None:
        """In place of `feed`, for a token that was `plain` and went another way."""

    def feed(self, token_id: int) -> bool:
        """Takes one token; True if it completed a stop string, which ends the output.

        Raises InvalidRequest for an id outside the vocabulary, and what the check of calls raises.
        """

    def end(self, *, by_model: bool) -> bool:
        """The output is over; True if what was held back turns out to complete a stop string.

        `by_model`: with a stop token; otherwise it was cut. Not after a stop string. Raises what the check of
        calls raises.
        """

    def take(self) -> Piece:
        """Returns the parts that are new since the last call."""
