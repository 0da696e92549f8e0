"""POST /tokenize and /detokenize, in the spelling of vLLM's and SGLang's clients.

A prompt is `prompt`, a text, or `messages`, with all else that a chat body may hold: the same body gives a
chat completion whose `usage.prompt_tokens` is `count` here. Nothing is generated and no worker is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from services.common.errors import InvalidRequest, UnsupportedValue
from services.families.model_profile import ModelProfile
from services.gateway.admission import Ticket
from services.gateway.http.answers.reply import Reply
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.decoder import BodyDecoder, in_thread_if_long
from services.gateway.http.bodies.fields.limited import IdField
from services.gateway.http.bodies.to_request import prompt_from_body
from services.gateway.http.bodies.unsupported import refuse_unsupported
from services.gateway.http.shapes.tokenize import DetokenizeAnswer, TokenizeAnswer
from services.gateway.pipeline.prompt.tokenizing import Tokenizing
from services.gateway.pipeline.request import ChatPrompt, TextPrompt


class TokenizeBody(msgspec.Struct):
    """A text, or a conversation with all else that a chat's body may hold. Null means absent.

    Special-token strings in texts are ordinary text by default, as in chats; engines that run the published
    tokenizer's default parse them.
    """

    prompt: str | None = None
    # Decoded with the rest of the chat body.
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    model: str | None = None
    parse_special: bool | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    truncate_prompt_tokens: int | None = None
    mm_processor_kwargs: dict[str, Any] | None = None


class DetokenizeBody(msgspec.Struct):
    """Token ids to convert to text. Null means absent."""

    tokens: list[IdField]
    model: str | None = None
    skip_special_tokens: bool | None = None


UNSUPPORTED = ("return_token_strs", "truncate_prompt_tokens", "mm_processor_kwargs")


@dataclass(frozen=True)
class _Call:
    """`num_bytes`: of the body, its images left out; `param`: the field the prompt came in."""

    model: str
    prompt: ChatPrompt | TextPrompt
    num_bytes: int
    param: str


class TokenizeEndpoint:
    """Both routes; they share the threads and bounds of Tokenizing."""

    def __init__(self, tokenizing: Tokenizing, profile: ModelProfile) -> None:
        self._tokenizing = tokenizing
        self._profile = profile
        self._tokenize = BodyDecoder(TokenizeBody)
        self._chat = BodyDecoder(ChatBody)
        self._detokenize = BodyDecoder(DetokenizeBody)

    async def tokenize(self, body: bytes, ticket: Ticket, reply: Reply) -> None:
        """Answers `tokens`, `count`, `max_model_len` (null: not known) and `text`.

        `text` is the rendered prompt, an image being one media pad in it; `tokens` and `count` have as
        many pads as the image has tokens. Raises the InvalidRequest family naming the field.
        """
        call = await in_thread_if_long(self._call, body)
        made = await self._tokenizing.tokenize(call.model, call.prompt, call.num_bytes, call.param)
        await reply.json(
            TokenizeAnswer(
                tokens=made.token_ids,
                count=len(made.token_ids),
                max_model_len=self._tokenizing.context_length or None,
                text=made.text,
            )
        )

    async def detokenize(self, body: bytes, ticket: Ticket, reply: Reply) -> None:
        """Answers `text`, and the same as `prompt`, vLLM's name. Bytes that are no UTF-8 become U+FFFD.

        Raises the InvalidRequest family; an id outside the vocabulary is named by its place.
        """
        given = await in_thread_if_long(self._detokenize.decode, body)
        text = await self._tokenizing.detokenize(
            given.model or "", given.tokens, len(body), "tokens", bool(given.skip_special_tokens)
        )
        await reply.json(DetokenizeAnswer(text, text))

    def _call(self, body: bytes) -> _Call:
        given = self._tokenize.decode(body)
        chat = isinstance(given.messages, msgspec.Raw) and bytes(given.messages) != b"null"
        if chat == (given.prompt is not None):
            raise InvalidRequest("exactly one of prompt and messages must be given", "prompt")
        _refuse_unsupported(given, chat)
        if given.prompt is not None:
            prompt = TextPrompt(given.prompt, bool(given.parse_special))
            return _Call(given.model or "", prompt, len(body), "prompt")
        return self._chat_call(body)

    def _chat_call(self, body: bytes) -> _Call:
        """Renders as for a chat completion, except that the assistant's turn may be left unopened."""
        given = self._chat.decode(body)
        refuse_unsupported(given)
        prompt = prompt_from_body(given, self._profile)
        num_bytes = len(body) - sum(len(medium.source) for medium in prompt.media)
        return _Call(given.model or "", prompt, num_bytes, "messages")


def _refuse_unsupported(body: TokenizeBody, chat: bool) -> None:
    """Fields that are known but not supported; bodies/unsupported.py has the rule."""
    if chat and body.parse_special:
        raise UnsupportedValue("parse_special: text in messages is never parsed", "parse_special")
    for field in UNSUPPORTED:
        if getattr(body, field):
            raise UnsupportedValue(f"{field} is not supported by this server", field)
