"""A chat body as the pipeline's request."""

from __future__ import annotations

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.sampling.params import FieldName
from services.families.conversation import (
    Conversation,
    ImagePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    VideoPart,
)
from services.gateway.http.bodies.chat import ChatBody, MessageBody, PartBody, ToolCallBody, UrlBody
from services.gateway.http.bodies.output_format import output_format
from services.gateway.http.bodies.sampling_fields import params_of
from services.gateway.http.bodies.unsupported import refuse_unsupported
from services.gateway.media.images import ImageSource
from services.gateway.media.request_media import MediaSource
from services.gateway.media.videos import VideoSource
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest
from services.gateway.pipeline.roles import template_role

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def request_from_body(body: ChatBody, vocab_size: int) -> GenerationRequest:
    """Raises InvalidRequest or UnsupportedValue naming the field."""
    refuse_unsupported(body)
    prompt = prompt_from_body(body)
    if not (prompt.conversation.add_generation_prompt or prompt.conversation.continues):
        raise UnsupportedValue("an answer needs its turn opened", "add_generation_prompt")
    return GenerationRequest(
        model=body.model or "",
        prompt=prompt,
        sampling=_sampling(body, vocab_size),
        field_name=_field_name(body),
        prompt_param="messages",
        cache_salt=body.cache_salt or "",
        priority=body.priority or 0,
        separate_reasoning=body.separate_reasoning is not False,
        stream_reasoning=body.stream_reasoning is not False,
        output=output_format(
            body.tool_choice, body.parallel_tool_calls, body.response_format, body.regex, body.ebnf
        ),
    )


def prompt_from_body(body: ChatBody) -> ChatPrompt:
    """The fields that the template renders. Raises InvalidRequest or UnsupportedValue naming the field."""
    media: list[MediaSource] = []
    messages = tuple(
        _message(message, f"messages[{index}]", media) for index, message in enumerate(body.messages)
    )
    tools = tuple(body.tools or ()) if body.tool_choice != "none" else ()
    continues = _continues(body)
    opened = body.add_generation_prompt is not False and not continues
    conversation = Conversation(messages, tools, _thinking(body), opened, continues)
    return ChatPrompt(conversation, tuple(media))


def _continues(body: ChatBody) -> bool:
    """Whether the answer goes on with the last message: the engines' field, or Moonshot's in the message."""
    early = next((index for index, message in enumerate(body.messages[:-1]) if message.partial), None)
    if early is not None:
        raise InvalidRequest("only the last message may be partial", f"messages[{early}].partial")
    partial = bool(body.messages) and bool(body.messages[-1].partial)
    if not (partial or body.continue_final_message):
        return False
    param = f"messages[{len(body.messages) - 1}].partial" if partial else "continue_final_message"
    if body.add_generation_prompt:
        raise InvalidRequest("add_generation_prompt would open another turn", "add_generation_prompt")
    last = body.messages[-1] if body.messages else None
    if last is None or last.role != "assistant" or last.tool_calls:
        raise InvalidRequest(
            "the last message is no assistant's without tool calls: nothing to go on with", param
        )
    return True


def _message(body: MessageBody, param: str, media: list[MediaSource]) -> Message:
    content: tuple[Part, ...] = ()
    if isinstance(body.content, str):
        content = (TextPart(body.content),)
    elif body.content is not None:
        content = tuple(
            _part(part, f"{param}.content[{index}]", media) for index, part in enumerate(body.content)
        )
    return Message(
        role=template_role(body.role, f"{param}.role"),
        content=content,
        name=body.name or "",
        reasoning_content=body.reasoning_content or "",
        tool_calls=tuple(_tool_call(call) for call in body.tool_calls or ()),
        tool_call_id=body.tool_call_id or "",
    )


def _part(part: PartBody, param: str, media: list[MediaSource]) -> Part:
    if part.type == "text":
        if part.text is None:
            raise InvalidRequest("a text part needs text", f"{param}.text")
        return TextPart(part.text)
    if part.type == "image_url":
        media.append(ImageSource(*_url(part.image_url, "image_url", param)))
        return ImagePart()
    if part.type == "video_url":
        media.append(VideoSource(*_url(part.video_url, "video_url", param)))
        return VideoPart()
    raise InvalidRequest(
        f"part type {part.type!r} is not one of 'text', 'image_url', 'video_url'", f"{param}.type"
    )


def _url(body: UrlBody | str | None, kind: str, param: str) -> tuple[str, str]:
    """The URL, and the field it is in."""
    if body is None:
        raise InvalidRequest(f"a part of type {kind} needs {kind}", f"{param}.{kind}")
    return (body, f"{param}.{kind}") if isinstance(body, str) else (body.url, f"{param}.{kind}.url")


def _tool_call(call: ToolCallBody) -> ToolCall:
    return ToolCall(id=call.id or "", name=call.function.name, arguments=call.function.arguments)


def _thinking(body: ChatBody) -> bool:
    """Any of the three switches turns thinking off: engines' kwargs, Moonshot's object, OpenAI's effort."""
    if body.thinking is not None and body.thinking.type not in ("enabled", "disabled"):
        raise InvalidRequest(
            f"thinking.type is {body.thinking.type!r}; it is 'enabled' or 'disabled'", "thinking.type"
        )
    if body.reasoning_effort is not None and body.reasoning_effort not in _EFFORTS:
        raise InvalidRequest(f"reasoning_effort is not one of {', '.join(_EFFORTS)}", "reasoning_effort")
    off = (
        body.chat_template_kwargs is not None and body.chat_template_kwargs.thinking is False,
        body.thinking is not None and body.thinking.type == "disabled",
        body.reasoning_effort == "none",
    )
    return not any(off)


def _sampling(body: ChatBody, vocab_size: int) -> sampling_pb2.SamplingParams:
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    return params_of(
        body,
        "openai",
        vocab_size,
        _field_name(body),
        max_tokens=limit,
        logprobs=body.logprobs,
        top_logprobs=body.top_logprobs,
    )


def _field_name(body: ChatBody) -> FieldName:
    renamed = {} if body.max_completion_tokens is None else {"max_tokens": "max_completion_tokens"}
    return lambda name: renamed.get(name, name)
