"""Whoever an API key belongs to, as the gateway counts and limits it."""

from __future__ import annotations

import hashlib

from services.common.errors import RateLimited
from services.gateway.access.key_record import KeyRecord
from services.gateway.access.usage import Kind, Usage

_BUSY_S = 1.0


class Tenant:
    """The holder of one API key. `id`: its number for the workers, from the label; never 0. `shown`: its
    label in metrics, whose number is bounded.

    Requests and tokens per minute are counted while there is a limit on them.
    """

    def __init__(self, record: KeyRecord, usage: Usage, shown: str = "") -> None:
        self.record = record
        self.label = record.label
        self.shown = shown or record.label
        self.weight = record.weight
        self.id = int.from_bytes(hashlib.sha256(record.label.encode()).digest()[:8]) | 1
        self._usage = usage

    @property
    def inside(self) -> int:
        """Requests that this process has of it."""
        return self._usage.own_in_flight

    @property
    def meters_tokens(self) -> bool:
        """Whether its tokens are limited."""
        return bool(self.record.tokens_per_minute)

    def enter(self) -> None:
        """Counts a request in. Raises RateLimited at one of the key's limits; nothing is counted then."""
        limits, usage = self.record, self._usage
        if limits.max_concurrent and usage.in_flight >= limits.max_concurrent:
            raise RateLimited(
                f"this API key has {limits.max_concurrent} requests in flight, its limit; retry later",
                _BUSY_S,
            )
        if limits.tokens_per_minute:
            self._require(Kind.TOKENS, 1, limits.tokens_per_minute)
        if limits.requests_per_minute:
            self._require(Kind.REQUESTS, 1, limits.requests_per_minute)
            usage.add(Kind.REQUESTS, 1)
        usage.enter()

    def leave(self) -> None:
        """A request that was counted in has ended."""
        self._usage.leave()

    def take_prompt(self, tokens: int) -> None:
        """Counts the tokens of a prompt. Raises RateLimited if they do not fit; nothing is counted then."""
        if not (limit := self.record.tokens_per_minute):
            return
        if tokens > limit:
            raise RateLimited(
                f"the prompt has {tokens} tokens; this API key may use {limit} in a minute", _BUSY_S
            )
        self._require(Kind.TOKENS, tokens, limit)
        self._usage.add(Kind.TOKENS, tokens)

    def take_generated(self, tokens: int) -> None:
        """Counts tokens that have been generated."""
        if self.record.tokens_per_minute:
            self._usage.add(Kind.TOKENS, tokens)

    def _require(self, kind: Kind, count: int, limit: int) -> None:
        wait_s = self._usage.wait_s(kind, count, limit)
        if wait_s > 0:
            what = kind.name.lower()
            raise RateLimited(
                f"this API key may use {limit} {what} in a minute, and has; retry in {wait_s:.0f} s", wait_s
            )
