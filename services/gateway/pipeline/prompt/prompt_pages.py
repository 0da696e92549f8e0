"""A rendered prompt as routing sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perigee.v1 import vision_pb2
from services.common.page_hash import MediaSpan, chain_hashes, short_name
from services.gateway.workers.router import PromptPages

# Below this, hashing takes less than the hop to a thread and back is worth, about 1 ms.
_THREAD_TOKENS = 16_384


async def prompt_pages(
    token_ids: Sequence[int], media: Sequence[vision_pb2.MediaRef], cache_salt: str
) -> PromptPages:
    """Length and pages of a prompt; its last token is decode's, so it is in no page that could be cached."""
    if len(token_ids) < _THREAD_TOKENS:
        return _prompt_pages(token_ids, media, cache_salt)
    return await asyncio.to_thread(_prompt_pages, token_ids, media, cache_salt)


def _prompt_pages(
    token_ids: Sequence[int], media: Sequence[vision_pb2.MediaRef], cache_salt: str
) -> PromptPages:
    cacheable = token_ids[:-1]
    spans = [
        MediaSpan(ref.content_hash, ref.token_offset, min(ref.num_tokens, len(cacheable) - ref.token_offset))
        for ref in media
        if ref.token_offset < len(cacheable)
    ]
    hashes = chain_hashes(cacheable, spans, cache_salt)
    return PromptPages(len(cacheable), tuple(map(short_name, hashes)))
