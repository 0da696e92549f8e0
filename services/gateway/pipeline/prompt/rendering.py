"""The rendering stage: from a request's prompt to token ids with every media pad in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

from perigee.v1 import decode_pb2
from services.common.errors import UnsupportedValue
from services.families.conversation import Conversation, Message, TextPart
from services.families.prompt import MediaRun, RenderedPrompt, expand_media
from services.gateway.media.remote_media import RemoteMedia
from services.gateway.media.request_media import LoadedMedia, PromptMedium, load_media
from services.gateway.pipeline.prompt.prompt_pages import prompt_pages
from services.gateway.pipeline.request import AnyPrompt, ChatPrompt, TextPrompt
from services.gateway.served_model import ServedModel
from services.gateway.workers.router import PromptPages

# Below this, encoding takes less than the hop to a thread and back is worth, about 1 ms.
_THREAD_CHARACTERS = 8_192
_THREAD_MESSAGES = 64

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class Renderer:
    """Media's files and headers, template and tokenizer; long work is done in threads: no request waits.

    `executor`: whose threads; None: asyncio's own.
    """

    def __init__(self, model: ServedModel, remote: RemoteMedia, executor: Executor | None = None) -> None:
        self._chat = model.chat
        self._media = model.family.media
        self._remote = remote
        self._executor = executor

    async def fill(
        self, submit: decode_pb2.Submit, prompt: AnyPrompt
    ) -> tuple[tuple[PromptMedium, ...], PromptPages]:
        """Puts the prompt's token ids and the places of its media into `submit`, whose salt is there.

        Returns the media, to be encoded, and what routing needs. Raises InvalidRequest or UnsupportedValue,
        for a medium naming its field.
        """
        rendered, media = await self._render(prompt)
        token_ids, runs = _expanded(rendered, media)
        submit.prompt_token_ids.extend(token_ids)
        for medium, run in zip(media, runs, strict=True):
            submit.media.add(
                content_hash=medium.content_hash, token_offset=run.offset, num_tokens=run.num_tokens
            )
        return media, await prompt_pages(token_ids, submit.media, submit.cache_salt)

    async def tokenize(self, prompt: AnyPrompt) -> tuple[tuple[int, ...], str]:
        """Returns the prompt's token ids as `fill` gives them, and the text that was encoded: one media pad
        per medium however many tokens it takes; empty for given ids. Raises as `fill`.
        """
        rendered, media = await self._render(prompt)
        return _expanded(rendered, media)[0], rendered.text

    async def _render(self, prompt: AnyPrompt) -> tuple[RenderedPrompt, tuple[PromptMedium, ...]]:
        if isinstance(prompt, TextPrompt):
            return RenderedPrompt(tuple(await self._encode(prompt)), prompt.text, ()), ()
        if not isinstance(prompt, ChatPrompt):
            return RenderedPrompt(prompt.token_ids, "", ()), ()
        loaded = LoadedMedia((), ())
        if prompt.media:
            if self._media is None:
                raise UnsupportedValue("the served model takes no images or videos", prompt.media[0].param)
            media = await self._remote.fetch(prompt.media)
            loaded = await self._in_thread(load_media, media, self._remote.limits, self._media)
        return await self._render_chat(loaded.placed_in(prompt.conversation)), loaded.media

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


def _expanded(
    rendered: RenderedPrompt, media: tuple[PromptMedium, ...]
) -> tuple[tuple[int, ...], tuple[MediaRun, ...]]:
    return expand_media(rendered, [medium.num_tokens for medium in media])


def _is_short(conversation: Conversation) -> bool:
    """Tools and calls are never short: how much text their JSON makes is not known before."""
    messages = conversation.messages
    if conversation.tools or len(messages) > _THREAD_MESSAGES or any(turn.tool_calls for turn in messages):
        return False
    return sum(map(_characters, messages)) < _THREAD_CHARACTERS


def _characters(message: Message) -> int:
    texts = (part.text for part in message.content if isinstance(part, TextPart))
    return sum(map(len, (message.name, message.reasoning_content, message.tool_call_id, *texts)))
