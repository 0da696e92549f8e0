"""One read of a peer's memory, and its outcome."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.region import RegionKind


class ReadStatus(enum.Enum):
    """How a read ended. Only DONE means that the local entries hold the peer's bytes."""

    DONE = "done"
    FAILED = "failed"
    """The peer is gone or unknown, the request is impossible, or this side is closing."""
    LATE = "late"
    """The deadline passed first. Bytes may still arrive until the read is settled."""
    CORRUPT = "corrupt"
    """A checksum differed twice."""


@dataclass(frozen=True)
class ReadOutcome:
    """`bytes` were read (0 unless DONE) in `seconds` from the call of `read`; `message` is the reason if it
    is not DONE.
    """

    status: ReadStatus
    bytes: int
    seconds: float
    message: str = ""

    @property
    def gigabytes_per_second(self) -> float:
        """1e9 bytes per second; 0 if the clock did not advance."""
        return self.bytes / self.seconds / 1e9 if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class ReadRequest:
    """Copy the peer's `remote_entries` of the region `kind` into our own `local_entries`, pairwise.

    `peer` is the agent name of a connected (or connecting) offer. `local_entries` and `remote_entries` are
    int32 of one shape [n]. `deadline` is a time.monotonic() of this process.

    `crc32`, if given, holds one CRC-32 per run of `crc_entries` consecutive `local_entries` (it divides n),
    each over the run's bytes in that order. Only host memory can be verified.

    Callbacks run on the transfer thread and must return at once. `on_complete` is called exactly once, then
    `on_settled` exactly once, immediately or later: from then on no byte of this read can land any more. The
    caller keeps the local entries out of other use until then.
    """

    peer: str
    kind: RegionKind
    local_entries: npt.NDArray[np.int32]
    remote_entries: npt.NDArray[np.int32]
    deadline: float
    on_complete: Callable[[ReadOutcome], None]
    on_settled: Callable[[], None]
    crc32: Sequence[int] | None = None
    crc_entries: int = 1
