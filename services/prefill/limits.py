"""Limits of a prefill engine, and its load."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.kv_cache.page_pool import PageCounts


@dataclass(frozen=True)
class PrefillLimits:
    """See PrefillConfig for each field."""

    chunk_tokens: int
    max_waiting: int
    lease_s: float
    checksum_fraction: float


@dataclass(frozen=True)
class PrefillLoad:
    """The engine's load after its last step. The last three fields count since the start."""

    running: int
    waiting: int
    pages: PageCounts
    queued_tokens: int
    integrity_failures: int
    transfer_bytes: int
    computed_tokens: int
