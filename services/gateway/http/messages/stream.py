"""The events of a streamed message."""

from __future__ import annotations

from collections.abc import Iterator

from services.gateway.http.messages.answer import (
    SIGNATURE,
    ends_in_calls,
    message_id,
    stop_reason,
    usage_of,
)
from services.gateway.http.messages.shapes.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    InputDelta,
    MessageDelta,
    MessageEnd,
    MessageEvent,
    MessageStart,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
)
from services.gateway.http.messages.shapes.message import (
    AssistantMessage,
    TextAnswer,
    ThinkingAnswer,
    ToolUseAnswer,
)
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.output.events import ChoiceDelta


class MessageEvents:
    """Makes the events of one message of its deltas, in order: blocks one after another, each begun, filled
    and ended, then the end of the message.

    A call that is cut is not ended: agents run a call as soon as its block ends.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._open: type[ThinkingAnswer | TextAnswer | ToolUseAnswer] | None = None
        self._index = -1

    def start(self) -> MessageStart:
        """The first event, when the first delta is there: from then on it is known what was cached."""
        usage = usage_of(self._generation.usage)
        usage.output_tokens = 0
        head = self._generation.head
        return MessageStart(
            AssistantMessage(message_id(head), "assistant", head.model, [], None, None, usage)
        )

    def of(self, delta: ChoiceDelta) -> Iterator[MessageEvent]:
        """The events of a delta."""
        if delta.reasoning:
            yield from self._within(ThinkingAnswer("", ""))
            yield BlockDelta(self._index, ThinkingDelta(delta.reasoning))
        if delta.content:
            yield from self._within(TextAnswer(""))
            yield BlockDelta(self._index, TextDelta(delta.content))
        if delta.call is not None:
            if delta.call.name:
                yield from self._begin(ToolUseAnswer(delta.call.id, delta.call.name, {}))
            if delta.call.arguments:
                yield BlockDelta(self._index, InputDelta(delta.call.arguments))
        if delta.finish_reason:
            if self._open is not ToolUseAnswer or ends_in_calls(delta.finish_reason):
                yield from self._end()
            matched = self._generation.matched_stop(delta.index)
            end = MessageEnd(stop_reason(delta.finish_reason, matched), matched or None)
            yield MessageDelta(end, usage_of(self._generation.usage))

    def _within(self, block: ThinkingAnswer | TextAnswer) -> Iterator[MessageEvent]:
        """Begins the block unless one of its kind is open."""
        if self._open is not type(block):
            yield from self._begin(block)

    def _begin(self, block: ThinkingAnswer | TextAnswer | ToolUseAnswer) -> Iterator[MessageEvent]:
        yield from self._end()
        self._open = type(block)
        self._index += 1
        yield BlockStart(self._index, block)

    def _end(self) -> Iterator[MessageEvent]:
        if self._open is None:
            return
        if self._open is ThinkingAnswer:
            yield BlockDelta(self._index, SignatureDelta(SIGNATURE))
        self._open = None
        yield BlockStop(self._index)
