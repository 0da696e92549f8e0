"""Ids of tool calls in the shape the model knows, `functions.NAME:IDX`, and results with their calls' ids."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import dataclass, replace

from services.families.conversation import Conversation, Message, ToolCall

# More digits than any conversation has calls: such an id is not the model's.
_NATIVE = re.compile(r"functions\.(.+):([0-9]{1,9})", re.DOTALL)


def normalise_call_ids(conversation: Conversation) -> Conversation:
    """Gives foreign ids of calls the model's shape, and results the ids of their calls.

    The id is the only place where the model sees the name, and clients send ids of other servers. A call with
    the id `functions.NAME:IDX` of its own name keeps it, whatever IDX is; so does a call without a name. Any
    other call gets the next free IDX. The n-th result with an id belongs to the n-th call with it; a result
    without an id belongs to the first unanswered call of its name, or else to the first unanswered call. A
    result of no call keeps its id. A message of the user ends the wait for results.
    """
    if not any(message.tool_calls or message.role == "tool" for message in conversation.messages):
        return conversation
    numbers = _Numbers(conversation)
    answers = _Answers()
    messages: list[Message] = []
    for message in conversation.messages:
        if message.role == "tool":
            message = replace(message, tool_call_id=answers.id_of_result(message))
        elif message.role == "user":
            answers.forget_unanswered()
        calls: list[ToolCall] = []
        for call in message.tool_calls:
            renamed = replace(call, id=numbers.id_of_call(call))
            answers.expect(call, renamed.id)
            calls.append(renamed)
        messages.append(replace(message, tool_calls=tuple(calls)))
    return conversation.with_messages(tuple(messages))


def next_call_index(conversation: Conversation) -> int:
    """The IDX of the next call: behind those of all calls in the conversation."""
    numbers = _Numbers(conversation)
    for message in conversation.messages:
        for call in message.tool_calls:
            numbers.id_of_call(call)
    return numbers.next_index


class _Numbers:
    """Counts the calls of a conversation; `next_index`: behind those of all calls so far."""

    def __init__(self, conversation: Conversation) -> None:
        calls = [call for message in conversation.messages for call in message.tool_calls]
        self._native = {call.id for call in calls if _native_index(call) is not None}
        self.next_index = 0

    def id_of_call(self, call: ToolCall) -> str:
        """The id of the next call of the conversation."""
        index = _native_index(call)
        if index is not None or not call.name:
            self.next_index = max(self.next_index, -1 if index is None else index) + 1
            return call.id
        while (made := f"functions.{call.name}:{self.next_index}") in self._native:
            self.next_index += 1
        self.next_index += 1
        return made


def _native_index(call: ToolCall) -> int | None:
    """The IDX of an id that the model could have written for this call; None for any other id."""
    found = _NATIVE.fullmatch(call.id)
    return int(found[2]) if found is not None and found[1] == call.name else None


@dataclass
class _Expected:
    """A call. `new_id`: as the model sees it; `answered`: whether its result came or is not waited for."""

    new_id: str
    answered: bool = False


class _Answers:
    """Which call each result belongs to."""

    def __init__(self) -> None:
        self._all: deque[_Expected] = deque()
        self._by_id: dict[str, deque[_Expected]] = defaultdict(deque)
        self._by_name: dict[str, deque[_Expected]] = defaultdict(deque)
        self._latest: dict[str, str] = {}

    def expect(self, call: ToolCall, new_id: str) -> None:
        """A call was made."""
        expected = _Expected(new_id)
        for queue in (self._all, self._by_id[call.id], self._by_name[call.name]):
            queue.append(expected)
        self._latest[call.id] = new_id

    def forget_unanswered(self) -> None:
        """Calls without a result so far get none, unless it names one by its id and no later call has it."""
        for expected in self._all:
            expected.answered = True
        self._all.clear()

    def id_of_result(self, message: Message) -> str:
        """The new id of a result."""
        given = message.tool_call_id
        if given:
            return _first(self._by_id[given]) or self._latest.get(given, given)
        return _first(self._by_name[message.name]) or _first(self._all)


def _first(queue: deque[_Expected]) -> str:
    """The new id of the first call that has no result yet, which has one now; empty: there is none."""
    while queue:
        expected = queue.popleft()
        if not expected.answered:
            expected.answered = True
            return expected.new_id
    return ""
