"""A rendered prompt as routing sees it."""

from __future__ import annotations

import asyncio

from services.common.page_hash import MediaSpan, chain_hashes, short_name
from services.gateway.pipeline.prompt.rendering import TokenizedPrompt
from services.gateway.workers.router import PromptPages

# Below this, hashing takes less than the hop to a thread and back is worth, about 1 ms.
_THREAD_TOKENS = 16_384


async def prompt_pages(prompt: TokenizedPrompt, cache_salt: str) -> PromptPages:
    """Length and pages of a prompt; its last token is decode's, so it is in no page that could be cached."""
    if len(prompt.token_ids) < _THREAD_TOKENS:
        return _prompt_pages(prompt, cache_salt)
    return await asyncio.to_thread(_prompt_pages, prompt, cache_salt)


def _prompt_pages(prompt: TokenizedPrompt, cache_salt: str) -> PromptPages:
    token_ids = prompt.token_ids[:-1]
    media = [
        MediaSpan(medium.content_hash, offset, min(medium.num_tokens, len(token_ids) - offset))
        for medium, offset in zip(prompt.media, prompt.media_offsets, strict=True)
        if offset < len(token_ids)
    ]
    hashes = chain_hashes(token_ids, media, cache_salt)
    return PromptPages(len(token_ids), tuple(map(short_name, hashes)))
