"""A fetch of a prompt's pages from a prefill worker: the order and the result."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import PerigeeError
from services.engine.media import Medium
from services.engine.sampling.scores import Scores, Scoring


@dataclass(frozen=True)
class FetchOrder:
    """Orders the worker at `address` to compute KV for `token_ids`; page `cached_pages` and later ones are
    read into `pages`.

    The fetch owns the pages until it reports its end. `source_address`: where the worker may read the first
    `cached_pages` pages, which are cached on this decode worker; empty: nowhere. `scoring`: which tokens are
    scored, `next_token_id`, the one after `token_ids`, included. `traceparent`: of the request's span.
    """

    address: str
    request_id: str
    token_ids: tuple[int, ...]
    media: tuple[Medium, ...]
    cache_salt: str
    cached_pages: int
    pages: tuple[int, ...]
    source_address: str = ""
    priority: int = 0
    scoring: Scoring | None = None
    next_token_id: int = 0
    tenant: int = 0
    weight: int = 1
    traceparent: str = ""

    @property
    def num_scores(self) -> int:
        """Number of tokens that are scored."""
        return 0 if self.scoring is None else len(self.token_ids) + 1 - self.scoring.first


@dataclass(frozen=True)
class FetchResult:
    """How a fetch ended. No read is posted after this.

    error: None if every page holds its KV.
    pages_at_risk: pages in which bytes may still land; `pages_settled` follows.
    computed_tokens: tokens the worker computed, neither cached there nor read from this worker.
    bytes_read: KV bytes read. bytes_before_done: those read before prefill's `done` message.
    tail_s: seconds from `done` to the last byte. done_at: when `done` came, in seconds of the clock.
    read_s: seconds in which reads were in flight.
    scores: of all tokens asked for, in order.
    """

    error: PerigeeError | None
    pages_at_risk: tuple[int, ...] = ()
    computed_tokens: int = 0
    bytes_read: int = 0
    bytes_before_done: int = 0
    tail_s: float = 0.0
    done_at: float = 0.0
    read_s: float = 0.0
    scores: tuple[Scores, ...] = ()
