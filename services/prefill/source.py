"""The interface to a page source: a worker that has cached pages this one lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.engine.leases.source_order import SourceOrder
from services.prefill.job import Job


@dataclass(frozen=True)
class SourceResult:
    """How reading from a source ended. No read is posted after this.

    arrived: number of leading pages of the order that hold their KV. pages_at_risk: other pages of it, in
    which bytes may still land; `pages_settled` follows. read_s: seconds in which reads were in flight.
    """

    arrived: int = 0
    pages_at_risk: tuple[int, ...] = ()
    bytes_read: int = 0
    read_s: float = 0.0


class PageSource(Protocol):
    """Reads cached pages on the event loop. Both calls return at once; results come back as messages."""

    def start(self, job: Job, order: SourceOrder) -> None:
        """Starts a read. `source_ended` follows, and `pages_settled` if pages were left at risk."""

    def stop(self, job: Job) -> None:
        """Stops a read, which soon ends. Does nothing if it has ended."""
