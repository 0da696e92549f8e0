"""Requests, their sequences (choices), and the prompts computed for them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from perigee.v1 import sampling_pb2
from services.common.errors import PerigeeError
from services.common.telemetry.timeline import Timeline
from services.common.telemetry.tracer import Trace
from services.decode.constraint.rules import ConstraintRules
from services.decode.constraint.token_constraint import TokenConstraint
from services.engine.batch import PAGE_TOKENS, BatchBuilder
from services.engine.kv_cache.page_table import PageTable
from services.engine.media import Medium, embeds_within, media_within
from services.engine.sampling.sampler import SampledToken
from services.engine.sampling.scores import Scores, Scoring
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState


@dataclass(frozen=True)
class Delta:
    """Changes of one choice, for its session.

    `waits`: no change; its request waits or its prompt is computed. `accepts`: no change; its request is no
    longer refused. `scores`: no change; some of its prompt's.
    """

    handle: int
    choice: int
    tokens: tuple[SampledToken, ...] = ()
    finish: sampling_pb2.FinishReason.ValueType = sampling_pb2.FINISH_REASON_UNSPECIFIED
    error: PerigeeError | None = None
    stats: RequestStats | None = None
    waits: bool = False
    accepts: bool = False
    scores: Scores | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the delta is plain tokens and nothing else."""
        if self.finish or self.error is not None or self.stats is not None:
            return False
        for token in self.tokens:  # noqa: SIM110 - a generator costs more than all else here
            if token.logprob is not None or token.drawn_id is not None:
                return False
        return True

    @property
    def is_cut(self) -> bool:
        """Whether the constraint replaced a drawn token."""
        return any(token.drawn_id is not None for token in self.tokens)


@dataclass
class RequestStats:
    """The origin of the prompt's KV; bytes and seconds of the last transfer that succeeded; the seconds of
    the stages before the first token.
    """

    cached_tokens: int = 0
    prefill_cached_tokens: int = 0
    transfer_bytes: int = 0
    transfer_bytes_before_done: int = 0
    transfer_tail_s: float = 0.0
    prefill_address: str = ""
    queue_s: float = 0.0
    media_s: float = 0.0
    prefill_s: float = 0.0
    transfer_s: float = 0.0
    first_step_s: float = 0.0


@dataclass(eq=False)
class Request:
    """A request as submitted. `choices`: their indices, which are part of the sampling key.

    `constraint`: compiled from `rules`, in the state where every choice starts; None until compiled.
    `tenant`, of this `weight`: whose it is; 0: nobody's in particular. `output_is_cut`: whether a constraint
    replaced one of `output_ids` on the worker that generated them. `scoring`:
    which tokens of the prompt are scored; None once the scores are sent. `timeline`: its stages, by the
    engine's clock; so are `arrived_at`, `ready_at` (its KV is complete) and `answered_at` (its first delta).
    `trace`: its span here, if it has one; `failure`: the reason of the error that ended it.
    """

    session: Session
    handle: int
    request_id: str
    prompt_ids: list[int]
    output_ids: list[int]
    spec: SamplingSpec
    seed: int
    choices: range
    max_tokens: int
    media: tuple[Medium, ...]
    cache_salt: str
    prefill_addresses: tuple[str, ...]
    own_address: str
    deadline: float
    rules: ConstraintRules | None = None
    output_is_cut: bool = False
    priority: int = 0
    scoring: Scoring | None = None
    tenant: int = 0
    weight: int = 1

    constraint: TokenConstraint | None = None
    unfinished: set[int] = field(default_factory=set)
    stats: RequestStats = field(default_factory=RequestStats)
    stats_sent: bool = False
    accepted: bool = False
    embeddings: dict[int, torch.Tensor] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    trace: Trace | None = None
    failure: str = ""
    arrived_at: float = 0.0
    ready_at: float = 0.0
    answered_at: float = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether the caller has got a delta of it, from this worker or an earlier one, or was informed that
        it is accepted.
        """
        return self.accepted or self.stats_sent or bool(self.output_ids)


@dataclass(eq=False)
class Session:
    """A gateway's stream: its live requests by handle, and `emit`, which sends deltas to it.

    Engine thread only, except `emit`.
    """

    emit: Callable[[list[Delta]], object]
    requests: dict[int, Request] = field(default_factory=dict)


@dataclass(eq=False)
class Sequence:
    """One choice of a request, which has at most `max_length` tokens.

    `context`: prompt plus output; once it runs, all tokens but the last have KV.
    """

    request: Request
    choice: int
    sampling: SamplingState
    context: list[int]
    max_length: int
    table: PageTable
    hashes: list[bytes] = field(default_factory=list)
    constraint: TokenConstraint | None = None

    @property
    def priority(self) -> int:
        """The request's priority; larger goes first."""
        return self.request.priority

    def constrain(self) -> None:
        """Copies the request's constraint, if it has one. Call before the sequence first runs."""
        if self.constraint is None and self.request.constraint is not None:
            self.constraint = self.sampling.constraint = self.request.constraint.fork()

    def add_to(self, batch: BatchBuilder, in_flight: int = 0) -> None:
        """Adds the last token, whose logits give the next one.

        `in_flight`: 1 if a newer token is in flight; then that one is added, whose id only the device knows.
        """
        position = len(self.context) - 1 + in_flight
        embeds = embeds_within(self.request.media, self.request.embeddings, position, position + 1)
        batch.add(self.context[-1:], position, self.table.pages, wants_logits=True, embeds=embeds)


class PromptState(enum.Enum):
    """The state of a prompt."""

    WAITING = "waiting"
    """In the queue: no pages yet."""
    FETCHING = "fetching"
    """A prefill worker computes its pages; this engine leaves them alone until the fetch has ended."""
    STOPPING = "stopping"
    """The request ended while fetching: its pages are freed when the fetch has ended."""
    NEEDS_MEDIA = "needs media"
    """Embeddings are being read."""
    EXTENDING = "extending"
    """Computed here, chunk by chunk."""
    ENDED = "ended"
    """Its sequences run, or its request is over."""


@dataclass(eq=False)
class Prompt:
    """A context whose KV, for all tokens but the last, is being obtained.

    All choices of a fresh request share one prompt. A preempted or resumed choice, which has output, has a
    prompt of its own. `computed`: leading tokens that have KV. `scores`: those so far. `retried`: whether a
    failed transfer was repeated. `attempts`: fetches started. `admitted`: whether a prefill worker has
    admitted it. `since`: when the stage began that it is in.
    """

    request: Request
    sequences: list[Sequence]
    table: PageTable
    candidates: list[str]
    address: str = ""
    state: PromptState = PromptState.WAITING
    hashes: list[bytes] = field(default_factory=list)
    computed: int = 0
    scores: list[Scores] = field(default_factory=list)
    retried: bool = False
    attempts: int = 0
    admitted: bool = False
    since: float = 0.0

    @property
    def priority(self) -> int:
        """The request's priority; larger goes first."""
        return self.request.priority

    @property
    def tenant(self) -> int:
        """Whose request it is."""
        return self.request.tenant

    @property
    def weight(self) -> int:
        """The tenant's weight."""
        return self.request.weight

    @property
    def context(self) -> list[int]:
        """Prompt plus output so far; the same for all its sequences."""
        return self.sequences[0].context

    @property
    def num_tokens(self) -> int:
        """Number of tokens that need KV."""
        return len(self.context) - 1

    @property
    def is_computed(self) -> bool:
        """Whether all its tokens have KV on this worker, or will have after the step in flight."""
        return self.state is PromptState.EXTENDING and self.computed == self.num_tokens

    @property
    def awaits_constraint(self) -> bool:
        """Whether the request's grammar is not compiled yet."""
        return self.request.rules is not None and self.request.constraint is None

    @property
    def scoring(self) -> Scoring | None:
        """Which tokens are scored."""
        return self.request.scoring

    @property
    def awaits_scores(self) -> bool:
        """Whether the scores of computed tokens have not landed yet."""
        scoring = self.request.scoring
        return scoring is not None and sum(map(len, self.scores)) < len(self.context) - scoring.first

    @property
    def cacheable(self) -> int:
        """Number of leading tokens that need not be computed if they are cached."""
        return self.num_tokens if self.request.scoring is None else self.request.scoring.cacheable

    @property
    def cacheable_hashes(self) -> list[bytes]:
        """Hashes of the whole pages of these tokens."""
        return self.hashes[: self.cacheable // PAGE_TOKENS]

    def targets(self, start: int, end: int) -> list[int]:
        """Returns the tokens that are scored where tokens [start, end) are computed."""
        scoring = self.request.scoring
        return [] if scoring is None else list(scoring.targets(self.context, start, end))

    @property
    def num_pages(self) -> int:
        """Number of pages for these tokens; the last may be partly filled."""
        return -(-self.num_tokens // PAGE_TOKENS)

    def missing_media(self) -> tuple[int, ...]:
        """Returns the indices of media without embeddings that have pads among the tokens computed here.

        These include the last token.
        """
        media = self.request.media
        wanted = media_within(media, self.computed, len(self.context))
        return tuple(
            index
            for index, medium in enumerate(media)
            if medium in wanted and index not in self.request.embeddings
        )

    def next_chunk(self, budget: int) -> int:
        """Number of tokens the next pass computes, at most `budget`."""
        return min(budget, self.num_tokens - self.computed)

    def add_to(self, batch: BatchBuilder, chunk: int) -> None:
        """Adds the next `chunk` tokens."""
        start, end = self.computed, self.computed + chunk
        embeds = embeds_within(self.request.media, self.request.embeddings, start, end)
        scored = len(self.targets(start, end))
        batch.add(self.context[start:end], start, self.table.pages, False, embeds, scored)
