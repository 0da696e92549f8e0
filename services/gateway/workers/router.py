"""Chooses the workers of a request, by its length and the hashes of its content alone."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType

from services.common.errors import Unavailable
from services.common.page_hash import PAGE_TOKENS, short_name
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import AnyWorker, RolePool, WorkerPool
from services.gateway.workers.worker import DecodeWorker, Worker

# What one more request on a decode worker is worth in tokens that another one has cached: it slows every step
# a little, while an uncached token has to be moved or even computed.
_TOKENS_PER_REQUEST = 256
# An encoder this many images behind the least busy one passes its new images on to the next.
_MOST_BEHIND = 4
# So many prefill workers are named for a prompt: the best one, and others to turn to.
_MOST_PREFILL = 8
_BY_REQUESTS, _BY_QUEUE = attrgetter("link.by_requests"), attrgetter("link.by_queue")
NOBODY: Mapping[str, int] = MappingProxyType({})
"""No worker to avoid."""


@dataclass(frozen=True)
class PromptPages:
    """A prompt as routing sees it: its length, and its whole pages by short name, in order."""

    num_tokens: int
    names: Sequence[int] = ()

    @property
    def num_pages(self) -> int:
        """Pages it fills, the last perhaps in part."""
        return -(-self.num_tokens // PAGE_TOKENS)


class Router:
    """Chooses among the workers that serve: none that drains, has left or cannot be reached."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def require(self, *, images: bool) -> None:
        """Raises Unavailable if a role that a request needs has no serving worker, before any work is spent.

        Prefill is optional: without it, decode workers compute prompts.
        """
        for pool in (self._pool.decode, *((self._pool.vision,) if images else ())):
            if pool.missing:
                raise _none_left(pool)

    def decode_away_since(self) -> float | None:
        """Since when no decode worker takes new requests, seconds of the links' clock: -inf if none ever did.
        None: one does.
        """
        return self._pool.decode.last_served_at if self._pool.decode.missing else None

    def last_restart_s(self, *, images: bool) -> float:
        """How long the last restart of a worker took, seconds, in the roles that a request needs and nobody
        serves now: the longest one; 0.0 if none is known.
        """
        pools = (self._pool.decode, *((self._pool.vision,) if images else ()))
        return max((pool.last_restart_s for pool in pools if pool.missing), default=0.0)

    def decode_addresses(self) -> list[str]:
        """Addresses of all decode workers that serve."""
        return [worker.link.address for worker in self._pool.decode.serving]

    def decode(self, prompt: PromptPages, avoid: Mapping[str, int] = NOBODY) -> DecodeWorker:
        """The decode worker for a prompt: first those with room for it, then by uncached tokens and load.

        Before all that: those whose circuit is closed, then those that have failed this request least often,
        by address in `avoid`. Raises Unavailable.
        """
        workers = self._pool.decode.serving
        if not workers:
            raise _none_left(self._pool.decode)

        holders, num_pages = self._pool.decode.holders(prompt.names), prompt.num_pages

        def rank(worker: DecodeWorker) -> tuple[bool, int, bool, int, int]:
            link, cached = worker.link, holders.get(worker, 0)
            cost = _TOKENS_PER_REQUEST * link.requests - PAGE_TOKENS * cached
            available = link.available_pages
            return (
                link.circuit.open,
                avoid.get(link.address, 0),
                num_pages - cached > available,
                cost,
                -available,
            )

        if avoid:
            return _sent(min(workers, key=rank))
        # Without the prompt's first page the least busy one with room is best: only the others are ranked.
        willing = [worker for worker in workers if not worker.link.circuit.open] or workers
        roomy = [worker for worker in willing if worker.link.available_pages >= num_pages] or willing
        return _sent(min((min(roomy, key=_BY_REQUESTS), *holders), key=rank))

    def prefill(self, prompt: PromptPages, reader: DecodeWorker) -> list[str]:
        """A few prefill addresses for a prompt that `reader` decodes, best first; none if none serves.

        The best is the one that would be done first, with the tokens in its queue and those of the prompt
        that neither it nor the reader has cached.
        """
        workers = self._pool.prefill.serving
        if not workers:
            return []
        at_reader = reader.link.cached.prefix(prompt.names)
        holders = self._pool.prefill.holders(prompt.names)

        def rank(worker: Worker) -> tuple[int, int, int]:
            link, own = worker.link, holders.get(worker, 0)
            return link.queued_tokens - PAGE_TOKENS * max(at_reader, own), -own, link.requests

        # As in `decode`: among workers without the first page, only the least busy ones are ranked.
        candidates = dict.fromkeys((*heapq.nsmallest(_MOST_PREFILL, workers, key=_BY_QUEUE), *holders))
        ranked = [worker.link for worker in heapq.nsmallest(_MOST_PREFILL, candidates, key=rank)]
        if ranked:
            cached = max(at_reader, ranked[0].cached.prefix(prompt.names))
            ranked[0].note_queued(prompt.num_tokens - cached * PAGE_TOKENS)
        return [link.address for link in ranked]

    def vision(self, content_hash: bytes) -> list[WorkerLink]:
        """Vision workers for an image, best first. Raises Unavailable when none is left.

        Those that have its embedding come first, then the others by rendezvous hashing (Thaler and
        Ravishankar 1998): a repeated image goes to the same encoder, and a lost worker moves only its own
        images. Workers that are far behind the others come after them, and last those whose circuit is open.
        """
        links = [worker.link for worker in self._pool.vision.serving]
        if not links:
            raise _none_left(self._pool.vision)
        name = short_name(content_hash)
        least = min(link.requests for link in links)

        def rank(link: WorkerLink) -> tuple[bool, bool, bool, bytes]:
            lacks = name not in link.cached
            behind = lacks and link.requests > least + _MOST_BEHIND
            return link.circuit.open, lacks, behind, _weight(content_hash, link.address)

        return sorted(links, key=rank)


def _sent(worker: DecodeWorker) -> DecodeWorker:
    worker.link.circuit.chosen()
    return worker


def _weight(content_hash: bytes, address: str) -> bytes:
    return hashlib.sha256(content_hash + address.encode()).digest()


def _none_left(pool: RolePool[AnyWorker]) -> Unavailable:
    states = [f"{worker.link.address} is {worker.link.state}" for worker in pool.workers]
    if pool.configured:
        why = ", ".join(states) or f"{pool.configured} resolves to no address"
    else:
        why = "none is configured"
    return Unavailable(f"no {pool.name} worker can serve: {why}")
