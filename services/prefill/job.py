"""A job: one prompt in a prefill engine."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from services.common.telemetry.timeline import Timeline
from services.common.telemetry.tracer import Trace
from services.engine.batch import PAGE_TOKENS, BatchBuilder
from services.engine.kv_cache.page_table import PageTable
from services.engine.media import Medium, embeds_within, media_within
from services.engine.sampling.scores import Scoring
from services.prefill.events import Event


class JobState(enum.Enum):
    """The state of a job. It holds a lease in every state except WAITING and ENDED."""

    WAITING = "waiting"
    """In the queue: no pages yet."""
    READING = "reading"
    """Pages are reserved; the first ones are being read from a source and must not be touched yet."""
    NEEDS_MEDIA = "needs media"
    """Pages are reserved; embeddings are being read."""
    COMPUTING = "computing"
    """Takes part in forward passes."""
    DONE = "done"
    """All pages are written; only the lease pins them."""
    ENDED = "ended"
    """Refused, released or abandoned. Its pages are kept while reads into them may still be posted."""


@dataclass(eq=False)
class Job:
    """A prompt to fill. Created on the event loop; only the engine thread uses it after `submit`.

    Any thread may call `emit` and set `abandoned`. `computed`: leading tokens that have KV;
    `tenant`, of this `weight`: whose it is, 0: nobody's in particular;
    `next_token_id`: with `scoring`, the prompt's last token, which is not in `token_ids`. `timeline`: its
    stages, by the engine's clock; `since`: when the present one began; `measured`: whether they are in the
    metrics; `trace`: its span here, if it has one.
    """

    request_id: str
    reader: str
    lease_key: int
    token_ids: list[int]
    media: tuple[Medium, ...]
    cache_salt: str
    reader_cached_pages: int
    source_address: str
    emit: Callable[[Event], object]

    priority: int = 0
    scoring: Scoring | None = None
    next_token_id: int = 0
    tenant: int = 0
    weight: int = 1
    abandoned: bool = False
    state: JobState = JobState.WAITING
    table: PageTable = field(init=False)
    """Set by the engine."""
    hashes: list[bytes] = field(default_factory=list)
    embeddings: dict[int, torch.Tensor] = field(default_factory=dict)
    computed: int = 0
    cached_tokens: int = 0
    source_tokens: int = 0
    lease_id: int = 0
    admitted_at: float = 0.0
    started_at: float = 0.0
    timeline: Timeline = field(default_factory=Timeline)
    since: float = 0.0
    measured: bool = False
    trace: Trace | None = None

    @property
    def pages(self) -> Sequence[int]:
        """Ids of its pages, in order; none while it waits."""
        return self.table.pages

    @property
    def num_tokens(self) -> int:
        """Number of tokens that need KV."""
        return len(self.token_ids)

    @property
    def num_pages(self) -> int:
        """Number of pages for these tokens; the last may be partly filled."""
        return -(-self.num_tokens // PAGE_TOKENS)

    @property
    def cacheable_hashes(self) -> Sequence[bytes]:
        """Hashes of the pages that need not be computed if they are cached."""
        return self.hashes if self.scoring is None else self.hashes[: self.scoring.cacheable // PAGE_TOKENS]

    def targets(self, start: int, end: int) -> Sequence[int]:
        """Returns the tokens that are scored where tokens [start, end) are computed."""
        if self.scoring is None:
            return ()
        return self.scoring.targets([*self.token_ids, self.next_token_id], start, end)

    def wanted_from_source(self) -> range:
        """Returns the page indices that the source has and this worker lacks; empty without a source."""
        first = self.computed // PAGE_TOKENS
        return range(first, max(first, self.reader_cached_pages) if self.source_address else first)

    def missing_media(self) -> tuple[int, ...]:
        """Returns the indices of media with pads among the tokens not computed yet."""
        wanted = media_within(self.media, self.computed, self.num_tokens)
        return tuple(index for index, medium in enumerate(self.media) if medium in wanted)

    def next_chunk(self, budget: int) -> int:
        """Number of tokens the next pass computes, at most `budget`: whole pages, except at the end."""
        left = self.num_tokens - self.computed
        if left <= budget:
            return left
        end = (self.computed + budget) // PAGE_TOKENS * PAGE_TOKENS
        return max(0, end - self.computed)

    def add_to(self, batch: BatchBuilder, chunk: int) -> None:
        """Adds the next `chunk` tokens."""
        start, end = self.computed, self.computed + chunk
        embeds = embeds_within(self.media, self.embeddings, start, end)
        scored = len(self.targets(start, end))
        batch.add(self.token_ids[start:end], start, self.pages, False, embeds, scored)
