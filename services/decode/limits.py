"""Limits of a decode engine, and its load."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.kv_cache.page_pool import PageCounts


@dataclass(frozen=True)
class DecodeLimits:
    """See DecodeConfig for each field. `context_length`: the longest sequence, tokens."""

    max_running: int
    max_waiting: int
    chunk_tokens: int
    local_prefill_tokens: int
    headroom_pages: int
    context_length: int
    lease_s: float


@dataclass(frozen=True)
class DecodeLoad:
    """The engine's state after its last step; the last three count since the start."""

    running: int
    waiting: int
    pages: PageCounts
    queued_tokens: int
    preemptions: int
    transfer_bytes: int
    integrity_failures: int
