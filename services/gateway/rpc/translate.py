"""Requests of the gRPC doors as the pipeline's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, TypeVar

from google.protobuf.message import Message as ProtoMessage

from perigee.v1 import chat_pb2, generation_pb2, sampling_pb2
from services.common.errors import InvalidRequest
from services.common.sampling.controls import TOP_LOGPROBS
from services.families.conversation import (
    Conversation,
    ImagePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    VideoPart,
)
from services.families.model_profile import ModelProfile
from services.gateway.media.images import ImageSource
from services.gateway.media.request_media import MediaSource
from services.gateway.media.videos import VideoSource
from services.gateway.pipeline.prompt.thinking import Switch, thinking_mode
from services.gateway.pipeline.request import (
    ChatPrompt,
    GenerationRequest,
    PromptLogprobs,
    TextPrompt,
    TokenPrompt,
)
from services.gateway.pipeline.roles import template_role
from services.gateway.rpc.output_format import chat_output_format, generate_output_format
from services.gateway.rpc.tools import declared_tools

Given = TypeVar("Given", bound=ProtoMessage)

# Below, it takes less time than a hop to a thread and back.
_THREAD_BYTES = 1 << 17


async def translated(
    function: Callable[[Given, float | None], GenerationRequest], request: Given, timeout_s: float | None
) -> GenerationRequest:
    """Translates a request with `function`, made of one of those below; in a thread if it is long."""
    if request.ByteSize() < _THREAD_BYTES:
        return function(request, timeout_s)
    return await asyncio.to_thread(function, request, timeout_s)


def request_from_chat(
    profile: ModelProfile, request: chat_pb2.ChatRequest, timeout_s: float | None
) -> GenerationRequest:
    """`profile`: the served model's. Raises InvalidRequest or UnsupportedValue naming the field."""
    media: list[MediaSource] = []
    messages = tuple(
        _message(message, f"messages[{index}]", media) for index, message in enumerate(request.messages)
    )
    mode = thinking_mode(profile, _switch(request, "thinking"), _switch(request, "preserve_thinking"))
    output = chat_output_format(request)
    tools = declared_tools(request) if output.tool_choice != "none" else ()
    continues = request.continue_final_message
    if continues and not (messages and messages[-1].role == "assistant" and not messages[-1].tool_calls):
        raise InvalidRequest("the last message is no assistant's without calls", "continue_final_message")
    conversation = Conversation(
        messages, tools, mode.thinking, not continues, continues, mode.preserve_thinking
    )
    return GenerationRequest(
        model=request.model,
        prompt=ChatPrompt(conversation, tuple(media)),
        sampling=_apart(request.sampling),
        field_name=_field_name,
        prompt_param="messages",
        cache_salt=request.cache_salt,
        priority=request.priority,
        timeout_s=timeout_s,
        separate_reasoning=request.separate_reasoning if request.HasField("separate_reasoning") else True,
        stream_reasoning=request.stream_reasoning if request.HasField("stream_reasoning") else True,
        output=output,
    )


def request_from_generate(
    request: generation_pb2.GenerateRequest, timeout_s: float | None
) -> GenerationRequest:
    """Raises InvalidRequest naming the field."""
    kind = request.WhichOneof("prompt")
    if kind is None:
        raise InvalidRequest("exactly one of text and token_ids must be set", "prompt")
    prompt = (
        TextPrompt(request.text, request.parse_special)
        if kind == "text"
        else TokenPrompt(tuple(request.token_ids.ids))
    )
    return GenerationRequest(
        model=request.model,
        prompt=prompt,
        sampling=_apart(request.sampling),
        field_name=_field_name,
        prompt_param="text" if kind == "text" else "token_ids.ids",
        cache_salt=request.cache_salt,
        priority=request.priority,
        timeout_s=timeout_s,
        output=generate_output_format(request),
        prompt_logprobs=_prompt_logprobs(request),
    )


def _prompt_logprobs(request: generation_pb2.GenerateRequest) -> PromptLogprobs | None:
    """Raises InvalidRequest naming the field."""
    if not request.HasField("prompt_logprobs"):
        return None
    first, top = "prompt_logprobs.first_token", "prompt_logprobs.top_logprobs"
    asked = request.prompt_logprobs
    TOP_LOGPROBS.check(asked.top_logprobs, top)
    return PromptLogprobs(asked.first_token, asked.top_logprobs, first, top)


def _switch(request: chat_pb2.ChatRequest, field: Literal["thinking", "preserve_thinking"]) -> Switch | None:
    """Returns an optional bool of the request; None: absent."""
    return Switch(getattr(request, field), field) if request.HasField(field) else None


def _apart(sampling: sampling_pb2.SamplingParams) -> sampling_pb2.SamplingParams:
    """A copy: a part of a message keeps the whole of it in memory, its images included."""
    copy = sampling_pb2.SamplingParams()
    copy.CopyFrom(sampling)
    return copy


def _field_name(control: str) -> str:
    """How the gRPC doors spell a control."""
    return f"sampling.{control}"


def _message(message: chat_pb2.Message, param: str, media: list[MediaSource]) -> Message:
    return Message(
        role=template_role(message.role, f"{param}.role"),
        content=tuple(
            _part(part, f"{param}.content[{index}]", media) for index, part in enumerate(message.content)
        ),
        name=message.name,
        reasoning_content=message.reasoning_content,
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in message.tool_calls
        ),
        tool_call_id=message.tool_call_id,
    )


def _part(part: chat_pb2.ContentPart, param: str, media: list[MediaSource]) -> Part:
    kind = part.WhichOneof("part")
    if kind == "text":
        return TextPart(part.text)
    if kind == "image" and (source := part.image.WhichOneof("source")) is not None:
        media.append(ImageSource(getattr(part.image, source), f"{param}.image.{source}"))
        return ImagePart()
    if kind == "video" and (origin := part.video.WhichOneof("source")) is not None:
        media.append(VideoSource(getattr(part.video, origin), f"{param}.video.{origin}"))
        return VideoPart()
    raise InvalidRequest("a content part needs text, or data or url of an image or a video", param)
