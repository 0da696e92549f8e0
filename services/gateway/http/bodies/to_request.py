"""A chat body as the pipeline's request."""

from __future__ import annotations

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.sampling.params import FieldName
from services.families.conversation import Conversation
from services.families.model_profile import ModelProfile
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.fields.sampling import params_of
from services.gateway.http.bodies.messages import lacks_reasoning, read_message
from services.gateway.http.bodies.output_format import output_format
from services.gateway.http.bodies.prompt_logprobs import openai_prompt_logprobs
from services.gateway.http.bodies.thinking import read_thinking
from services.gateway.http.bodies.unsupported import refuse_unsupported
from services.gateway.media.request_media import MediaSource
from services.gateway.pipeline.prompt.declared_tools import declared_functions
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest


def request_from_body(body: ChatBody, vocab_size: int, profile: ModelProfile) -> GenerationRequest:
    """Raises InvalidRequest or UnsupportedValue naming the field."""
    refuse_unsupported(body)
    prompt = prompt_from_body(body, profile)
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
        prompt_logprobs=openai_prompt_logprobs(body.prompt_logprobs, echoed=None, stream=bool(body.stream)),
    )


def prompt_from_body(body: ChatBody, profile: ModelProfile) -> ChatPrompt:
    """The fields that the template renders. Raises InvalidRequest or UnsupportedValue naming the field."""
    media: list[MediaSource] = []
    messages = tuple(
        read_message(message, f"messages[{index}]", media, profile.reasoning_fields)
        for index, message in enumerate(body.messages)
    )
    tools = declared_functions(body.tools or (), "tools")
    if body.tool_choice == "none":
        tools = ()
    continues = _continues(body)
    opened = body.add_generation_prompt is not False and not continues
    mode = read_thinking(body, profile)
    conversation = Conversation(messages, tools, mode.thinking, opened, continues, mode.preserve_thinking)
    unreasoned = frozenset(index for index, each in enumerate(body.messages) if lacks_reasoning(each))
    return ChatPrompt(conversation, tuple(media), unreasoned)


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
