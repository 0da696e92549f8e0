"""What a decode engine asks of a prefill worker, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import PerigeeError
from services.engine.media import Medium


@dataclass(frozen=True)
class FetchOrder:
    """Have `address` fill KV for `token_ids`, and read pages `cached_pages`, … into `pages`.

    The pages belong to the fetch until it reports its end. `source_address`: where `address` may read the
    pages before them, which are cached here; empty: nowhere.
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


@dataclass(frozen=True)
class FetchResult:
    """How a fetch ended. No read will be posted any more.

    error: None where every page holds its KV. pages_at_risk: pages a byte may still land in;
    `pages_settled` follows.
    computed_tokens: those the worker computed: it neither had them nor read them from this one.
    bytes_read counts KV bytes; bytes_before_done those read when prefill said done; tail_s is the time
    from then to the last byte.
    """

    error: PerigeeError | None
    pages_at_risk: tuple[int, ...] = ()
    computed_tokens: int = 0
    bytes_read: int = 0
    bytes_before_done: int = 0
    tail_s: float = 0.0
