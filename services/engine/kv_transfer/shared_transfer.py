"""Reads for a worker whose ranks each have their own pages: every rank reads its share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.agent import Agent
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.reads.inbox import reject, resolve
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus
from services.engine.kv_transfer.transfer_thread import TransferThread

T = TypeVar("T")
Page = TypeVar("Page", int, npt.NDArray[np.int32])


def reading_rank(page: Page, ranks: int) -> Page:
    """The rank that reads into a local page, or into each of several pages."""
    return page % ranks


class RankReader(Protocol):
    """Reads for another rank, with methods as in TransferThread: `RemoteReader`."""

    def connect(self, offer: Offer) -> Future[TransportReport]: ...
    def disconnect(self, agent_name: str) -> Future[None]: ...
    def read(self, request: ReadRequest) -> None: ...
    def is_alive(self) -> bool: ...
    def close(self) -> None: ...


class SharedTransfer(TransferThread):
    """Rank 0's transfer thread. Each rank reads the KV pages that `reading_rank` gives it; a read is done
    when all shares are, and fails with the first share that fails. Rank 0 alone reads everything else.
    """

    def __init__(
        self,
        agent: Agent,
        regions: Sequence[Region],
        incarnation: str,
        others: Sequence[RankReader],
        entries_per_page: int,
        **options: Any,
    ) -> None:
        """`others`: ranks 1, 2, ...; `options`: those of TransferThread."""
        super().__init__(agent, regions, incarnation, **options)
        self._others = tuple(others)
        self._entries_per_page = entries_per_page

    def connect(self, offer: Offer) -> Future[TransportReport]:
        """See TransferThread; connects every rank and returns rank 0's report."""
        return _all_of([super().connect(offer), *(rank.connect(offer) for rank in self._others)])

    def disconnect(self, agent_name: str) -> Future[None]:
        """See TransferThread; disconnects every rank."""
        return _all_of(
            [super().disconnect(agent_name), *(rank.disconnect(agent_name) for rank in self._others)]
        )

    def read(self, request: ReadRequest) -> None:
        """See TransferThread; the callbacks run on any thread."""
        runs, rest = divmod(len(request.local_entries), request.crc_entries)
        impossible = rest or request.local_entries.shape != request.remote_entries.shape
        if request.kind is not RegionKind.KV or impossible or not runs:
            super().read(request)  # it reports what is wrong
            return
        for reader, share in self._shares(request, runs):
            reader(share)

    def is_alive(self) -> bool:
        """Whether every rank reads."""
        return super().is_alive() and all(rank.is_alive() for rank in self._others)

    def close(self) -> None:
        """See TransferThread; closes every rank."""
        for rank in self._others:
            rank.close()
        super().close()

    def _shares(
        self, request: ReadRequest, runs: int
    ) -> list[tuple[Callable[[ReadRequest], None], ReadRequest]]:
        """Each reader with its share. A run of `crc_entries` entries lies in one page."""
        readers = [super().read, *(rank.read for rank in self._others)]
        local, remote = request.local_entries.reshape(runs, -1), request.remote_entries.reshape(runs, -1)
        owners = reading_rank(local[:, 0] // self._entries_per_page, len(readers))
        chosen = [(rank, (owners == rank).nonzero()[0]) for rank in range(len(readers))]
        chosen = [(rank, mine) for rank, mine in chosen if len(mine)]
        parts = _Parts(request, len(chosen))
        return [
            (
                readers[rank],
                replace(
                    request,
                    local_entries=local[mine].reshape(-1),
                    remote_entries=remote[mine].reshape(-1),
                    crc32=None if request.crc32 is None else [request.crc32[run] for run in mine],
                    on_complete=parts.completed,
                    on_settled=parts.settled,
                ),
            )
            for rank, mine in chosen
        ]


class _Parts:
    """Combines the outcomes and settlements of several reads into one of each."""

    def __init__(self, request: ReadRequest, count: int) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._incomplete = self._unsettled = count
        self._bytes = 0
        self._reported = False

    def completed(self, outcome: ReadOutcome) -> None:
        with self._lock:
            self._incomplete -= 1
            self._bytes += outcome.bytes
            failed = outcome.status is not ReadStatus.DONE
            if self._reported or (self._incomplete and not failed):
                return
            self._reported = True
        self._request.on_complete(outcome if failed else replace(outcome, bytes=self._bytes))

    def settled(self) -> None:
        with self._lock:
            self._unsettled -= 1
            if self._unsettled:
                return
        self._request.on_settled()


def _all_of(futures: Sequence[Future[T]]) -> Future[T]:
    """A future with the first one's result when all have one, or with the first error of any."""
    joined: Future[T] = Future()
    lock = threading.Lock()
    left = len(futures)

    def on_done(future: Future[T]) -> None:
        nonlocal left
        error = future.exception()
        with lock:
            left -= 1
            last = not left
        if error is not None:
            reject(joined, error if isinstance(error, Exception) else RuntimeError(str(error)))
        elif last and all(each.exception() is None for each in futures):
            resolve(joined, futures[0].result())

    for future in futures:
        future.add_done_callback(on_done)
    return joined
