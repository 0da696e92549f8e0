"""The states of an output and the markers that change them, by token ids alone.

    output    := [reasoning </think>] content [section] <|im_end|>
    section   := <|tool_calls_section_begin|> call+ <|tool_calls_section_end|>
    call      := <|tool_call_begin|> id <|tool_call_argument_begin|> arguments <|tool_call_end|>

The model sometimes forgets the section's begin: a call in the content begins a section too, one in the
reasoning does not. Only these single ids are markers: the same characters spelt in ordinary tokens are text,
and so are other names (`<|tool_call_section_begin|>`, without its s, is no token).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import cache
from types import MappingProxyType

from services.families.kimi.special import SpecialTokens


class State(Enum):
    """What an ordinary token is."""

    REASONING = auto()
    CONTENT = auto()
    # In or behind a tool section, outside calls: no part of the message.
    SECTION = auto()
    CALL_ID = auto()
    ARGUMENTS = auto()


class Mark(Enum):
    """A marker, named as its field of SpecialTokens."""

    THINK = "think"
    END_THINK = "end_think"
    SECTION_BEGIN = "tool_calls_section_begin"
    SECTION_END = "tool_calls_section_end"
    CALL_BEGIN = "tool_call_begin"
    ARGUMENT_BEGIN = "tool_call_argument_begin"
    CALL_END = "tool_call_end"


THINK_MARKS = frozenset((Mark.THINK, Mark.END_THINK))

# What is not here leaves the state as it is: such a marker is a stray one.
_NEXT: Mapping[tuple[State, Mark], State] = MappingProxyType(
    {
        (State.REASONING, Mark.END_THINK): State.CONTENT,
        (State.REASONING, Mark.SECTION_BEGIN): State.SECTION,
        (State.CONTENT, Mark.SECTION_BEGIN): State.SECTION,
        (State.CONTENT, Mark.CALL_BEGIN): State.CALL_ID,
        (State.SECTION, Mark.CALL_BEGIN): State.CALL_ID,
        (State.CALL_ID, Mark.ARGUMENT_BEGIN): State.ARGUMENTS,
        (State.CALL_ID, Mark.CALL_END): State.SECTION,
        (State.CALL_ID, Mark.SECTION_BEGIN): State.SECTION,
        (State.CALL_ID, Mark.SECTION_END): State.SECTION,
        (State.ARGUMENTS, Mark.CALL_END): State.SECTION,
        (State.ARGUMENTS, Mark.SECTION_BEGIN): State.SECTION,
        (State.ARGUMENTS, Mark.SECTION_END): State.SECTION,
        (State.ARGUMENTS, Mark.CALL_BEGIN): State.CALL_ID,
    }
)


def next_state(state: State, mark: Mark, *, calls: bool) -> State:
    """Returns the state after a marker. Without `calls` a section is content; it still ends the reasoning."""
    if not calls and mark is Mark.SECTION_BEGIN:
        return State.CONTENT
    return _NEXT.get((state, mark), state)


@cache
def marks_of(special: SpecialTokens, *, calls: bool) -> Mapping[int, Mark]:
    """The ids that are markers. Without `calls` those within a section are ordinary tokens."""
    marks = Mark if calls else (*THINK_MARKS, Mark.SECTION_BEGIN)
    return MappingProxyType({getattr(special, mark.value): mark for mark in marks})
