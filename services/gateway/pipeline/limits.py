"""What can be checked before and after rendering, without asking any worker."""

from __future__ import annotations

from services.common.errors import ContextLengthExceeded, InvalidRequest, UnsupportedValue
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest, TokenPrompt
from services.gateway.sampling import validate
from services.gateway.served_model import ServedModel

MAX_SALT_CHARACTERS = 256


def check_request(request: GenerationRequest, model: ServedModel) -> None:
    """Raises InvalidRequest, or UnsupportedValue for images without an encoder, naming the field."""
    validate(request.sampling, model.vocab_size, request.field_name)
    if len(request.cache_salt) > MAX_SALT_CHARACTERS:
        raise InvalidRequest(f"cache_salt is longer than {MAX_SALT_CHARACTERS} characters", "cache_salt")
    prompt = request.prompt
    if isinstance(prompt, ChatPrompt):
        if not prompt.conversation.messages:
            raise InvalidRequest("at least one message is needed", "messages")
        if prompt.images and not model.vision:
            raise UnsupportedValue("this gateway has no vision workers: text only", prompt.images[0].param)
    if isinstance(prompt, TokenPrompt):
        _check_ids(prompt.token_ids, request.prompt_param, model)


def _check_ids(token_ids: tuple[int, ...], param: str, model: ServedModel) -> None:
    media_pad = model.tokenizer.special.media_pad
    for index, token_id in enumerate(token_ids):
        if token_id >= model.vocab_size:
            raise InvalidRequest(
                f"{param}[{index}] is {token_id}; the vocabulary has {model.vocab_size} entries",
                f"{param}[{index}]",
            )
        if token_id == media_pad:
            raise InvalidRequest(
                f"{param}[{index}] is a media pad, which stands for an image", f"{param}[{index}]"
            )


def token_budget(request: GenerationRequest, prompt_tokens: int, context_length: int) -> int:
    """How many tokens a choice may have: max_tokens, or what the context leaves.

    Raises InvalidRequest for an empty prompt, ContextLengthExceeded when the prompt leaves no room for a
    token, or less than max_tokens.
    """
    if not prompt_tokens:
        raise InvalidRequest("the prompt is empty", request.prompt_param)
    left = context_length - prompt_tokens
    asked = request.sampling.max_tokens
    if left < 1:
        raise ContextLengthExceeded(
            f"the prompt has {prompt_tokens} tokens; the context length is {context_length}",
            request.prompt_param,
        )
    if asked is None:
        return left
    if asked > left:
        raise ContextLengthExceeded(
            f"{prompt_tokens} prompt tokens and {asked} new ones exceed the context length {context_length}",
            request.field_name("max_tokens"),
        )
    return asked
