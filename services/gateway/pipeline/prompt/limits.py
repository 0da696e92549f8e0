"""Checks before and after rendering that need no worker."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import ContextLengthExceeded, InvalidRequest, UnsupportedValue
from services.families.conversation import Conversation, Message, TextPart
from services.families.model_profile import HostedRules, ModelProfile
from services.gateway.pipeline.prompt.json_size import json_characters
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest, TextPrompt, TokenPrompt
from services.gateway.profile import (
    Profile,
    check_forced_calls,
    check_moonshot,
    check_past_reasoning,
    check_results,
)
from services.gateway.sampling import check_sampling
from services.gateway.served_model import ServedModel

MAX_SALT_CHARACTERS = 256
MOST_PRIORITY = 1000


@dataclass(frozen=True)
class RequestRules:
    """Limits of this gateway, independent of the model's. `max_characters`: of a prompt's text, the tools as
    JSON included. `profile`: what else is insisted on in chats.
    """

    max_messages: int
    max_tools: int
    max_characters: int
    profile: Profile


def check_request(
    request: GenerationRequest, model: ServedModel, rules: RequestRules, context_length: int
) -> None:
    """Raises InvalidRequest, ContextLengthExceeded for a prompt that cannot fit into `context_length` tokens
    however it is encoded, or UnsupportedValue for media without an encoder, naming the field.
    """
    check_sampling(request.sampling, model.vocab_size, request.field_name)
    if len(request.cache_salt) > MAX_SALT_CHARACTERS:
        raise InvalidRequest(f"cache_salt is longer than {MAX_SALT_CHARACTERS} characters", "cache_salt")
    if abs(request.priority) > MOST_PRIORITY:
        raise InvalidRequest(
            f"priority is {request.priority}; it must be from -{MOST_PRIORITY} to {MOST_PRIORITY}", "priority"
        )
    prompt = request.prompt
    if isinstance(prompt, ChatPrompt):
        _check_conversation(prompt.conversation, rules)
        _check_abilities(prompt, model)
        if rules.profile == "moonshot":
            _check_hosted(request, prompt, model.profile)
    elif not (prompt.text if isinstance(prompt, TextPrompt) else prompt.token_ids):
        raise InvalidRequest("the prompt is empty", request.prompt_param)
    elif isinstance(prompt, TextPrompt):
        _check_characters(len(prompt.text), rules, request.prompt_param)
    _check_length(request, model, context_length)
    if isinstance(prompt, TokenPrompt):
        _check_ids(prompt.token_ids, request.prompt_param, model)


def _check_hosted(request: GenerationRequest, prompt: ChatPrompt, profile: ModelProfile) -> None:
    check_moonshot(request.sampling, profile.defaults.of(prompt.conversation), request.field_name)
    check_past_reasoning(prompt.conversation, prompt.unreasoned, profile.hosted)
    check_results(prompt.conversation)
    check_forced_calls(prompt.conversation, request.output, profile.hosted)


def _check_conversation(conversation: Conversation, rules: RequestRules) -> None:
    messages, tools = conversation.messages, conversation.tools
    if not messages:
        raise InvalidRequest("at least one message is needed", "messages")
    if len(messages) > rules.max_messages:
        raise InvalidRequest(
            f"at most {rules.max_messages} messages are taken, {len(messages)} given", "messages"
        )
    if len(tools) > rules.max_tools:
        raise InvalidRequest(f"at most {rules.max_tools} tools are taken, {len(tools)} given", "tools")
    most = rules.max_characters
    written = _characters(conversation) + sum(_other_characters(message, most) for message in messages)
    _check_characters(written, rules, "messages")
    _check_characters(written + json_characters(tools, most), rules, "tools")


def _check_abilities(prompt: ChatPrompt, model: ServedModel) -> None:
    conversation = prompt.conversation
    if not model.chat.takes_tools and (conversation.tools or conversation.num_calls):
        raise UnsupportedValue(
            "the served model calls no tools", "tools" if conversation.tools else "messages"
        )
    if prompt.media and model.family.media is None:
        raise UnsupportedValue("the served model takes no images or videos", prompt.media[0].param)
    if prompt.media and not model.vision:
        raise UnsupportedValue("this gateway has no vision workers: text only", prompt.media[0].param)


def _other_characters(message: Message, most: int) -> int:
    """Beside its content."""
    calls = message.tool_calls
    names = (message.name, message.reasoning_content, message.tool_call_id, *(call.name for call in calls))
    return json_characters([call.arguments for call in calls], most) + sum(map(len, names))


def _check_characters(count: int, rules: RequestRules, param: str) -> None:
    if count > rules.max_characters:
        raise ContextLengthExceeded(
            f"the prompt has {count} characters; at most {rules.max_characters} are taken", param
        )


def _check_length(request: GenerationRequest, model: ServedModel, context_length: int) -> None:
    """Encoding many megabytes takes minutes; that they do not fit is known before."""
    prompt = request.prompt
    if isinstance(prompt, ChatPrompt):
        markers = model.chat.markers_per_message * len(prompt.conversation.messages)
        least = markers + model.tokenizer.least_tokens(_characters(prompt.conversation))
    elif isinstance(prompt, TextPrompt):
        least = model.tokenizer.least_tokens(len(prompt.text), prompt.parse_special)
    else:
        least = len(prompt.token_ids)
    if least > context_length:
        raise ContextLengthExceeded(
            f"the prompt has {least} tokens or more; the context length is {context_length}",
            request.prompt_param,
            least,
            context_length,
        )


def _characters(conversation: Conversation) -> int:
    """Characters of the contents alone: a prompt may leave out names and past reasoning."""
    parts = (part for message in conversation.messages for part in message.content)
    return sum(len(part.text) for part in parts if isinstance(part, TextPart))


def _check_ids(token_ids: tuple[int, ...], param: str, model: ServedModel) -> None:
    media_pad = model.tokenizer.media_pad
    for index, token_id in enumerate(token_ids):
        if not 0 <= token_id < model.vocab_size:
            raise InvalidRequest(
                f"{param}[{index}] is {token_id}; the vocabulary has {model.vocab_size} entries",
                f"{param}[{index}]",
            )
        if token_id == media_pad:
            raise InvalidRequest(
                f"{param}[{index}] is a media pad, which stands for an image or a video", f"{param}[{index}]"
            )


def token_budget(
    request: GenerationRequest, prompt_tokens: int, context_length: int, hosted: HostedRules | None
) -> int:
    """How many tokens a choice may have: what the context leaves, or max_tokens if that is less.

    `hosted`: rules of the vendor's API for chats; None: none. Raises ContextLengthExceeded when the prompt
    leaves no room for a token; under these rules InvalidRequest for a chat whose max_tokens are more than the
    context leaves.
    """
    if not isinstance(request.prompt, ChatPrompt):
        hosted = None
    left = context_length - prompt_tokens
    if left < 1:
        raise ContextLengthExceeded(
            f"the prompt has {prompt_tokens} tokens; the context length is {context_length}",
            request.prompt_param,
            prompt_tokens,
            context_length,
        )
    if not request.sampling.HasField("max_tokens"):
        return min(left, hosted.max_tokens or left) if hosted else left
    asked = request.sampling.max_tokens
    if asked > left and hosted is not None:
        raise InvalidRequest(
            f"{prompt_tokens} prompt tokens and {asked} new ones exceed the context length {context_length}",
            request.field_name("max_tokens"),
        )
    return min(asked, left)
