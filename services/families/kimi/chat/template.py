"""The published chat template: what a prompt consists of, in order.

    prompt  := [tools] message* [generation]
    tools   := <|im_system|>tool_declare<|im_middle|> DECLARATION <|im_end|>
    message := ROLE NAME <|im_middle|> BODY <|im_end|>
    generation := <|im_assistant|>assistant<|im_middle|><think>      (and </think> with thinking off)

An assistant's body is `<think>` reasoning `</think>` content and calls. Reasoning survives only behind the
last assistant message without calls, that is inside the tool round that is still open; with
`preserve_thinking` it survives everywhere. Where a conversation
goes on with its last message, that one takes the generation prompt's place: its body, reasoning included, is
left open behind its content, or behind its reasoning where it has no content.
"""

from __future__ import annotations

import json

from services.families.conversation import Conversation, ImagePart, Json, Message, Part, TextPart, ToolCall
from services.families.kimi.chat.segments import Segment, SegmentWriter
from services.families.kimi.tools.declaration import declare_tools

VIDEO_PLACEHOLDER = "<|kimi_k25_video_placeholder|>"
_ROLE_MARKERS = {"user": "im_user", "assistant": "im_assistant"}


def lay_out(conversation: Conversation) -> tuple[Segment, ...]:
    """The prompt in segments, one media pad per medium. Raises InvalidRequest for tools nested too deeply."""
    writer = SegmentWriter()
    if conversation.tools:
        _begin(writer, "im_system", "tool_declare")
        writer.text(declare_tools(conversation.tools))
        writer.marker("im_end")
    closed = conversation.messages[:-1] if conversation.continues else conversation.messages
    last_answer = -1 if conversation.preserve_thinking else _last_answer(closed)
    for index, message in enumerate(closed):
        _begin(writer, _ROLE_MARKERS.get(message.role, "im_system"), message.name or message.role)
        if message.role == "assistant":
            keeps_reasoning = conversation.thinking and index > last_answer
            _write_assistant(writer, message, message.reasoning_content if keeps_reasoning else "")
        else:
            if message.role == "tool":
                writer.text(f"## Return of {message.tool_call_id}\n")
            _write_content(writer, message.content)
        writer.marker("im_end")
    if conversation.continues:
        _open(writer, conversation.messages[-1], conversation)
    elif conversation.add_generation_prompt:
        _open(writer, Message("assistant"), conversation)
    return writer.finish()


def _last_answer(messages: tuple[Message, ...]) -> int:
    answers = (
        i for i, message in enumerate(messages) if message.role == "assistant" and not message.tool_calls
    )
    return max(answers, default=-1)


def _open(writer: SegmentWriter, message: Message, conversation: Conversation) -> None:
    """The assistant's turn as far as `message` goes."""
    _begin(writer, "im_assistant", message.name or message.role)
    writer.marker("think")
    if conversation.thinking:
        writer.text(message.reasoning_content)
    if not conversation.starts_in_reasoning:
        writer.marker("end_think")
    _write_content(writer, message.content)


def _begin(writer: SegmentWriter, marker: str, name: str) -> None:
    writer.marker(marker)
    writer.text(name)
    writer.marker("im_middle")


def _write_assistant(writer: SegmentWriter, message: Message, reasoning: str) -> None:
    writer.marker("think")
    writer.text(reasoning)
    writer.marker("end_think")
    _write_content(writer, message.content)
    if message.tool_calls:
        writer.marker("tool_calls_section_begin")
        for call in message.tool_calls:
            _write_call(writer, call)
        writer.marker("tool_calls_section_end")


def _write_call(writer: SegmentWriter, call: ToolCall) -> None:
    writer.marker("tool_call_begin")
    writer.text(call.id)
    writer.marker("tool_call_argument_begin")
    writer.text(_arguments(call.arguments))
    writer.marker("tool_call_end")


def _arguments(arguments: Json) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _write_content(writer: SegmentWriter, content: tuple[Part, ...]) -> None:
    for part in content:
        if isinstance(part, TextPart):
            writer.text(part.text)
            continue
        if isinstance(part, ImagePart):
            _write_medium(writer, "image")
        elif not part.timestamps:
            writer.text(VIDEO_PLACEHOLDER)
        else:
            for timestamp in part.timestamps:
                writer.text(timestamp)
                _write_medium(writer, "video")
        # The published template has this newline behind every medium, whatever follows.
        writer.text("\n")


def _write_medium(writer: SegmentWriter, kind: str) -> None:
    writer.marker("media_begin")
    writer.text(kind)
    writer.marker("media_content")
    writer.marker("media_pad")
    writer.marker("media_end")
