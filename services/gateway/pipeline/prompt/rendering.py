"""The rendering stage: from a request's prompt to token ids with every media pad in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

from services.common.errors import UnsupportedValue
from services.families.conversation import Conversation, Message, TextPart
from services.families.prompt import RenderedPrompt, expand_media
from services.gateway.media.images import PromptImage
from services.gateway.media.remote_media import RemoteMedia
from services.gateway.media.request_media import LoadedMedia, PromptMedium, load_media
from services.gateway.pipeline.request import AnyPrompt, ChatPrompt, TextPrompt
from services.gateway.served_model import ServedModel

# Below this, encoding takes less than the hop to a thread and back is worth, about 1 ms.
_THREAD_CHARACTERS = 8_192
_THREAD_MESSAGES = 64

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TokenizedPrompt:
    """A rendered prompt. `media` in order of appearance; `media_offsets`: index of each one's first pad.

    `text`: what was encoded, one media pad per medium however many tokens it takes; empty for given ids.
    """

    token_ids: tuple[int, ...]
    media: tuple[PromptMedium, ...] = ()
    media_offsets: tuple[int, ...] = ()
    text: str = ""

    @property
    def image_tokens(self) -> int:
        """Pads of images."""
        return sum(medium.num_tokens for medium in self.media if isinstance(medium, PromptImage))

    @property
    def video_tokens(self) -> int:
        """Pads of videos."""
        return sum(medium.num_tokens for medium in self.media) - self.image_tokens


class Renderer:
    """Media's files and headers, template and tokenizer; long work is done in threads: no request waits.

    `executor`: whose threads; None: asyncio's own.
    """

    def __init__(self, model: ServedModel, remote: RemoteMedia, executor: Executor | None = None) -> None:
        self._chat = model.chat
        self._media = model.family.media
        self._remote = remote
        self._executor = executor

    async def render(self, prompt: AnyPrompt) -> TokenizedPrompt:
        """Raises InvalidRequest or UnsupportedValue, for a medium naming its field."""
        if isinstance(prompt, TextPrompt):
            return TokenizedPrompt(tuple(await self._encode(prompt)), text=prompt.text)
        if not isinstance(prompt, ChatPrompt):
            return TokenizedPrompt(prompt.token_ids)
        loaded = LoadedMedia((), ())
        if prompt.media:
            if self._media is None:
                raise UnsupportedValue("the served model takes no images or videos", prompt.media[0].param)
            media = await self._remote.fetch(prompt.media)
            loaded = await self._in_thread(load_media, media, self._remote.limits, self._media)
        rendered = await self._render_chat(loaded.placed_in(prompt.conversation))
        token_ids, runs = expand_media(rendered, [medium.num_tokens for medium in loaded.media])
        return TokenizedPrompt(token_ids, loaded.media, tuple(run.offset for run in runs), rendered.text)

    async def _encode(self, prompt: TextPrompt) -> list[int]:
        if len(prompt.text) < _THREAD_CHARACTERS:
            return self._chat.tokenizer.encode(prompt.text, prompt.parse_special)
        return await self._in_thread(self._chat.tokenizer.encode, prompt.text, prompt.parse_special)

    async def _render_chat(self, conversation: Conversation) -> RenderedPrompt:
        if _is_short(conversation):
            return self._chat.render(conversation)
        return await self._in_thread(self._chat.render, conversation)

    async def _in_thread(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


def _is_short(conversation: Conversation) -> bool:
    """Tools and calls are never short: how much text their JSON makes is not known before."""
    messages = conversation.messages
    if conversation.tools or len(messages) > _THREAD_MESSAGES or any(turn.tool_calls for turn in messages):
        return False
    return sum(map(_characters, messages)) < _THREAD_CHARACTERS


def _characters(message: Message) -> int:
    texts = (part.text for part in message.content if isinstance(part, TextPart))
    return sum(map(len, (message.name, message.reasoning_content, message.tool_call_id, *texts)))
