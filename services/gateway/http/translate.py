"""A chat body as the pipeline's request."""

from __future__ import annotations

from services.common.errors import InvalidRequest
from services.gateway.chat.messages import (
    Conversation,
    ImagePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    VideoPart,
)
from services.gateway.http.output_format import output_format
from services.gateway.http.schema import ChatBody, MessageBody, PartBody, ToolCallBody, UrlBody
from services.gateway.http.unsupported import refuse_unsupported
from services.gateway.pipeline.images import ImageSource
from services.gateway.pipeline.media import MediaSource
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest
from services.gateway.pipeline.roles import template_role
from services.gateway.pipeline.videos import VideoSource
from services.gateway.sampling import FieldName, SamplingOptions

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def request_from_body(body: ChatBody) -> GenerationRequest:
    """Raises InvalidRequest or UnsupportedValue naming the field."""
    refuse_unsupported(body)
    return GenerationRequest(
        model=body.model or "",
        prompt=prompt_from_body(body),
        sampling=_sampling(body),
        field_name=_field_name(body),
        prompt_param="messages",
        cache_salt=body.cache_salt or "",
        output=output_format(
            body.tool_choice, body.parallel_tool_calls, body.response_format, body.regex, body.ebnf
        ),
    )


def prompt_from_body(body: ChatBody) -> ChatPrompt:
    """What of a body the template writes. Raises InvalidRequest or UnsupportedValue naming the field."""
    media: list[MediaSource] = []
    messages = tuple(
        _message(message, f"messages[{index}]", media) for index, message in enumerate(body.messages)
    )
    tools = tuple(body.tools or ()) if body.tool_choice != "none" else ()
    opened = body.add_generation_prompt is not False
    return ChatPrompt(Conversation(messages, tools, _thinking(body), opened), tuple(media))


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


def _sampling(body: ChatBody) -> SamplingOptions:
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return SamplingOptions(
        temperature=body.temperature,
        top_p=body.top_p,
        # -1 is how the engines' clients spell "no limit".
        top_k=0 if body.top_k in (None, -1) else body.top_k or 0,
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty,
        logit_bias=_logit_bias(body.logit_bias or {}),
        seed=_seed(body.seed),
        n=1 if body.n is None else body.n,
        max_tokens=limit,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        stop=tuple(stop),
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
    )


def _seed(seed: int | None) -> int | None:
    """OpenAI's seed is a signed 64-bit number; the key of the generator is unsigned."""
    return seed + (1 << 64) if seed is not None and -(1 << 63) <= seed < 0 else seed


def _logit_bias(given: dict[str, float]) -> dict[int, float]:
    try:
        return {int(token_id): bias for token_id, bias in given.items()}
    except ValueError as error:
        raise InvalidRequest(f"the keys of logit_bias are token ids: {error}", "logit_bias") from error


def _field_name(body: ChatBody) -> FieldName:
    renamed = {} if body.max_completion_tokens is None else {"max_tokens": "max_completion_tokens"}
    return lambda name: renamed.get(name, name)
