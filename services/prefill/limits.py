"""Bounds of a prefill engine, and how near it is to them."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.kv_cache.page_pool import PageCounts


@dataclass(frozen=True)
class PrefillLimits:
    """See PrefillConfig for the meaning of each."""

    chunk_tokens: int
    max_waiting: int
    lease_s: float
    checksum_fraction: float


@dataclass(frozen=True)
class PrefillLoad:
    """The engine's state after its last step; the last three count since the start."""

    running: int
    waiting: int
    pages: PageCounts
    queued_tokens: int
    integrity_failures: int
    transfer_bytes: int
    computed_tokens: int
