"""A whole message, made of a finished answer."""

from __future__ import annotations

from typing import Any

import msgspec

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidToolCall
from services.families.conversation import ToolCall
from services.gateway.http.messages.shapes.message import (
    AssistantMessage,
    MessagesUsage,
    StopReason,
    TextAnswer,
    ThinkingAnswer,
    ToolUseAnswer,
)
from services.gateway.pipeline.output.answer import ChoiceAnswer
from services.gateway.pipeline.output.events import Completion

SIGNATURE = "perigee"
"""The signature of all reasoning. Clients want one and send it back; it proves nothing, none is checked."""
_CALLS = sampling_pb2.FINISH_REASON_TOOL_CALLS


def message_id(head: Completion) -> str:
    """The message's id."""
    return "msg_" + head.id.rpartition("-")[2]


def usage_of(counts: sampling_pb2.Usage) -> MessagesUsage:
    """Token accounting so far. Nothing is charged for keeping a prompt: no tokens count as created."""
    return MessagesUsage(
        input_tokens=counts.prompt_tokens - counts.cached_tokens,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=counts.cached_tokens,
        output_tokens=counts.completion_tokens,
    )


def stop_reason(finish: sampling_pb2.FinishReason.ValueType, matched_stop: str) -> StopReason:
    """Why a choice ended. `matched_stop`: the stop sequence that ended it; empty: none did."""
    if finish == _CALLS:
        return "tool_use"
    if finish == sampling_pb2.FINISH_REASON_LENGTH:
        return "max_tokens"
    return "stop_sequence" if matched_stop else "end_turn"


def ends_in_calls(finish: sampling_pb2.FinishReason.ValueType) -> bool:
    """Whether the last call is finished: agents run every call that they get whole."""
    return finish == _CALLS


def whole_message(
    head: Completion, choice: ChoiceAnswer, counts: sampling_pb2.Usage, matched_stop: str
) -> AssistantMessage:
    """Without a last call that is cut. Raises InvalidToolCall for arguments that are no object."""
    content: list[ThinkingAnswer | TextAnswer | ToolUseAnswer] = []
    if choice.reasoning:
        content.append(ThinkingAnswer(choice.reasoning, SIGNATURE))
    if choice.content:
        content.append(TextAnswer(choice.content))
    calls = choice.calls if ends_in_calls(choice.finish_reason) else choice.calls[:-1]
    content += [ToolUseAnswer(call.id, call.name, _input(call)) for call in calls]
    return AssistantMessage(
        id=message_id(head),
        role="assistant",
        model=head.model,
        content=content,
        stop_reason=stop_reason(choice.finish_reason, matched_stop),
        stop_sequence=matched_stop or None,
        usage=usage_of(counts),
    )


def _input(call: ToolCall) -> dict[str, Any]:
    try:
        arguments: dict[str, Any] = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidToolCall(f"the model's call of {call.name!r} has no object as its input") from error
    return arguments
