"""One attempt to have a prompt filled by a prefill worker."""

from __future__ import annotations

from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.request import Prompt


def next_order(prompt: Prompt, cached_pages: int) -> FetchOrder:
    """Takes the next of the prompt's candidates and returns the order for it.

    `cached_pages`: whole pages of the prompt that are here. Prefill starts at a page boundary, and so do the
    pages of an order: no tail is copied for a fetch.
    """
    request = prompt.request
    prompt.address = prompt.candidates.pop(0)
    prompt.attempts += 1
    return FetchOrder(
        address=prompt.address,
        request_id=request.request_id,
        token_ids=tuple(prompt.context[:-1]),
        media=request.media,
        cache_salt=request.cache_salt,
        priority=request.priority,
        tenant=request.tenant,
        weight=request.weight,
        cached_pages=cached_pages,
        pages=tuple(prompt.table.pages[cached_pages : prompt.num_pages]),
        source_address=request.own_address if cached_pages else "",
        scoring=request.scoring,
        next_token_id=prompt.context[-1],
        traceparent="" if request.trace is None else request.trace.traceparent,
    )


def note_fetch(prompt: Prompt, result: FetchResult) -> None:
    """Records a successful fetch in the request's stats, unless they are sent already."""
    request = prompt.request
    if request.stats_sent:
        return
    request.stats.prefill_address = prompt.address
    # Pages that an earlier attempt of this prompt left in a cache do not count as cached.
    reused = 0 if prompt.attempts > 1 else max(0, prompt.num_tokens - result.computed_tokens)
    request.stats.cached_tokens = min(prompt.computed, reused)
    request.stats.prefill_cached_tokens = reused - request.stats.cached_tokens
    request.stats.transfer_bytes = result.bytes_read
    request.stats.transfer_bytes_before_done = result.bytes_before_done
    request.stats.transfer_tail_s = result.tail_s
