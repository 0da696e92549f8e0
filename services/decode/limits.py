"""Bounds of a decode engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecodeLimits:
    """See DecodeConfig for the meaning of each; `context_length` is the longest sequence, tokens."""

    max_running: int
    max_waiting: int
    chunk_tokens: int
    local_prefill_tokens: int
    headroom_pages: int
    context_length: int
    lease_s: float
