"""Events that a prefill engine emits for a job, most of them to its reader."""

from __future__ import annotations

from dataclasses import dataclass

from perigee.v1 import prefill_pb2
from services.engine.leases.lease_table import Lease
from services.engine.sampling.scores import Scores


@dataclass(frozen=True)
class NeedsMedia:
    """The engine waits for these media, as indices into the request's. Not sent to the reader."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Admitted:
    """`pages` are reserved and leased; `cached_tokens` leading tokens are cached."""

    lease: Lease
    pages: tuple[int, ...]
    cached_tokens: int


@dataclass(frozen=True)
class Ready:
    """Pages [first_page, first_page + page_count) of layers [first_layer, end_layer) are written."""

    first_page: int
    page_count: int
    first_layer: int
    end_layer: int
    crc32: tuple[int, ...]


@dataclass(frozen=True)
class Scored:
    """Tokens of the prompt are scored, in order; at most as many as one message takes."""

    scores: Scores


@dataclass(frozen=True)
class Done:
    """The last page is written: `source_tokens` were read from a source, `computed_tokens` computed here."""

    computed_tokens: int
    source_tokens: int
    queue_seconds: float
    compute_seconds: float


@dataclass(frozen=True)
class Refused:
    """The job is refused or has failed; the last event."""

    reason: prefill_pb2.PrefillRefusal.ValueType
    message: str


@dataclass(frozen=True)
class Renewed:
    """The lease was renewed."""


@dataclass(frozen=True)
class Released:
    """The reader has released a lease that was still held; the last event."""

    generation: int


Event = NeedsMedia | Admitted | Ready | Scored | Done | Refused | Renewed | Released
