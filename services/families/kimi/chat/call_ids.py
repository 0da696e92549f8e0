"""Ids of tool calls in the shape the model knows, `functions.NAME:IDX`, counted over the conversation."""

from __future__ import annotations

from dataclasses import replace

from services.families.conversation import Conversation, Message, ToolCall


def normalise_call_ids(conversation: Conversation) -> Conversation:
    """Numbers the calls of the conversation from 0 and names each by its function; results follow their call.

    The id is the only place where the model sees the name, and clients send ids of other servers. A call
    without a name keeps its id. A result's id means the latest call before it that had this id; a result of
    no call keeps its id.
    """
    renamed: dict[str, str] = {}
    count = 0
    messages: list[Message] = []
    for message in conversation.messages:
        if message.tool_call_id:
            message = replace(message, tool_call_id=renamed.get(message.tool_call_id, message.tool_call_id))
        calls: list[ToolCall] = []
        for call in message.tool_calls:
            new = f"functions.{call.name}:{count}" if call.name else call.id
            count += 1
            renamed[call.id] = new
            calls.append(replace(call, id=new))
        messages.append(replace(message, tool_calls=tuple(calls)))
    return conversation.with_messages(tuple(messages))
