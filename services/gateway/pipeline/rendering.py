"""The rendering stage: from a request's prompt to token ids with every media pad in its place."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.common.kimi.tokenizer import Tokenizer
from services.gateway.chat.call_ids import normalise_call_ids
from services.gateway.chat.messages import Conversation, Message, TextPart
from services.gateway.chat.prompt import RenderedPrompt, expand_media, render
from services.gateway.pipeline.media import LoadedMedia, MediaLimits, PromptMedium, load_media
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest, TextPrompt

# Below this, encoding takes less than the hop to a thread and back is worth, about 1 ms.
_THREAD_CHARACTERS = 8_192
_THREAD_MESSAGES = 64


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt. `media` in order of appearance; `media_offsets`: index of each one's first pad."""

    token_ids: tuple[int, ...]
    media: tuple[PromptMedium, ...] = ()
    media_offsets: tuple[int, ...] = ()


class Renderer:
    """Template, tokenizer and headers of media; long work is done in threads, so that no request waits."""

    def __init__(self, tokenizer: Tokenizer, limits: MediaLimits) -> None:
        self._tokenizer = tokenizer
        self._limits = limits

    async def render(self, request: GenerationRequest) -> Prompt:
        """Raises InvalidRequest or UnsupportedValue, for a medium naming its field."""
        prompt = request.prompt
        if isinstance(prompt, TextPrompt):
            return Prompt(tuple(await encode_text(self._tokenizer, prompt.text)))
        if not isinstance(prompt, ChatPrompt):
            return Prompt(prompt.token_ids)
        loaded = LoadedMedia((), ())
        if prompt.media:
            loaded = await asyncio.to_thread(load_media, prompt.media, self._limits)
        rendered = await self._render_chat(loaded.placed_in(prompt.conversation))
        token_ids, runs = expand_media(rendered, [medium.num_tokens for medium in loaded.media])
        return Prompt(token_ids, loaded.media, tuple(run.offset for run in runs))

    async def _render_chat(self, conversation: Conversation) -> RenderedPrompt:
        normalised = normalise_call_ids(conversation)
        if _is_short(conversation):
            return render(normalised, self._tokenizer)
        return await asyncio.to_thread(render, normalised, self._tokenizer)


def _is_short(conversation: Conversation) -> bool:
    """Tools and calls are never short: how much text their JSON makes is not known before."""
    messages = conversation.messages
    if conversation.tools or len(messages) > _THREAD_MESSAGES or any(turn.tool_calls for turn in messages):
        return False
    return sum(map(_characters, messages)) < _THREAD_CHARACTERS


def _characters(message: Message) -> int:
    texts = (part.text for part in message.content if isinstance(part, TextPart))
    return sum(map(len, (message.name, message.reasoning_content, message.tool_call_id, *texts)))


async def encode_text(tokenizer: Tokenizer, text: str, *, parse_special: bool = False) -> list[int]:
    """Token ids of a text; a long one is encoded in a thread."""
    if len(text) < _THREAD_CHARACTERS:
        return tokenizer.encode(text, parse_special=parse_special)
    return await asyncio.to_thread(tokenizer.encode, text, parse_special=parse_special)
