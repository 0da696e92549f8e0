"""The reads under one lease, for use on the event loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from services.common.errors import TransferFailed
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus
from services.engine.kv_transfer.transfer_thread import TransferThread

Entries = npt.NDArray[np.int32]


class ReadGroup:
    """Posts reads to the transfer thread and tracks their ends. Made and used on one event loop.

    A read *completes* when its outcome is known, and *settles* when no byte of it can land any more; a late
    one completes long before it settles. Until it settles, its destination must not be used for anything
    else.
    """

    def __init__(
        self,
        transfer: TransferThread,
        agent_name: str,
        kind: RegionKind,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transfer = transfer
        self._clock = clock
        self._busy_since = 0.0
        self._busy_s = 0.0
        self._agent_name = agent_name
        self._kind = kind
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count()
        self._incomplete: set[int] = set()
        self._unsettled: dict[int, Sequence[int]] = {}
        self._changed = asyncio.Event()
        self.bytes_read = 0
        self.failure: ReadOutcome | None = None

    def post(
        self,
        pages: Sequence[int],
        local_entries: Entries,
        remote_entries: Entries,
        deadline: float,
        crc32: Sequence[int] | None = None,
        crc_entries: int = 1,
    ) -> None:
        """Starts a read into `local_entries`, which lie in the local pages `pages`."""
        read = next(self._ids)
        if not self._incomplete:
            self._busy_since = self._clock()
        self._incomplete.add(read)
        self._unsettled[read] = pages
        self._transfer.read(
            ReadRequest(
                peer=self._agent_name,
                kind=self._kind,
                local_entries=local_entries,
                remote_entries=remote_entries,
                deadline=deadline,
                crc32=crc32,
                crc_entries=crc_entries,
                on_complete=lambda outcome: self._call(self._completed, read, outcome),
                on_settled=lambda: self._call(self._settled, read),
            )
        )

    @property
    def busy_s(self) -> float:
        """Seconds in which a read was in flight, so far."""
        return self._busy_s + (self._clock() - self._busy_since if self._incomplete else 0.0)

    @property
    def pages_at_risk(self) -> list[int]:
        """Local pages that a byte may still land in, each once."""
        return sorted({page for pages in self._unsettled.values() for page in pages})

    async def completed(self, more: Callable[[], bool] = lambda: False) -> None:
        """Returns when every read is done and `more` is False: no more will be posted (call `wake` when it
        changes).

        Raises TransferFailed as soon as a read fails.
        """
        while self.failure is None and (self._incomplete or more()):
            await self._change()
        if self.failure is not None:
            raise TransferFailed(f"read from {self._agent_name}: {self.failure.message}")

    async def settled(self) -> None:
        """Returns when no byte can land any more."""
        while self._unsettled:
            await self._change()

    def wake(self) -> None:
        """Makes `completed` call its `more` again."""
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """On the transfer thread: calls a function on the event loop, unless that is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _completed(self, read: int, outcome: ReadOutcome) -> None:
        self._incomplete.discard(read)
        if not self._incomplete:
            self._busy_s += self._clock() - self._busy_since
        if outcome.status is ReadStatus.DONE:
            self.bytes_read += outcome.bytes
        elif self.failure is None:
            self.failure = outcome
        self._changed.set()

    def _settled(self, read: int) -> None:
        del self._unsettled[read]
        self._changed.set()
