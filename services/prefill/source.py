"""What a prefill engine asks of a worker that has pages it lacks, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.engine.leases.source_order import SourceOrder
from services.prefill.job import Job


@dataclass(frozen=True)
class SourceResult:
    """How a read ended. Nothing will be posted any more.

    arrived: how many leading pages of the order hold their KV. pages_at_risk: others of them, in which a
    byte may still land; `pages_settled` follows.
    """

    arrived: int = 0
    pages_at_risk: tuple[int, ...] = ()
    bytes_read: int = 0


class PageSource(Protocol):
    """What the engine asks of the event loop; both calls return at once, the answers come back as
    messages."""

    def start(self, job: Job, order: SourceOrder) -> None:
        """Answered by `source_ended`, and by `pages_settled` where pages were left at risk."""

    def stop(self, job: Job) -> None:
        """The read shall end soon; one that has ended is ignored."""
