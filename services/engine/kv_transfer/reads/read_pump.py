"""Posts reads, watches them, and frees each only when NIXL has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from services.engine.kv_transfer.agents.agent import Agent, AgentError, Handle, TransferState
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.flight import ReadFlight, checked_entries
from services.engine.kv_transfer.reads.peer import TransferPeer
from services.engine.kv_transfer.reads.read_request import ReadStatus

logger = logging.getLogger(__name__)

_ATTEMPTS = 2
"""A corrupt read is read once more before it is reported."""


class ReadPump:
    """All reads in flight of a process. Transfer thread only."""

    def __init__(
        self,
        agent: Agent,
        targets: Mapping[RegionKind, tuple[Region, Handle]],
        on_broken: Callable[[TransferPeer, str], None],
        clock: Callable[[], float],
    ) -> None:
        """`targets`: own regions with their prepared lists. `on_broken` is called when a peer's connection
        fails.
        """
        self._agent = agent
        self._targets = targets
        self._on_broken = on_broken
        self._clock = clock
        self._flights: list[ReadFlight] = []
        self.last_change = 0.0
        """When a flight last began or ended, by the clock."""

    def __len__(self) -> int:
        return len(self._flights)

    def post(self, read: ActiveRead, peer: TransferPeer) -> None:
        """Starts a read from a connected peer, or ends it if that is impossible."""
        if read.is_late(self._clock()):
            read.end(ReadStatus.LATE, "the deadline had passed before the read was posted")
            return
        try:
            flight = self._prepare(read, peer)
        except ValueError as error:
            read.end(ReadStatus.FAILED, str(error))
        except AgentError as error:
            read.end(ReadStatus.FAILED, str(error))
            self._on_broken(peer, str(error))
        except Exception as error:  # barrier: nothing is posted yet, so this read may fail alone
            logger.exception("a read from %s cannot be prepared", peer.name)
            read.end(ReadStatus.FAILED, f"{type(error).__name__}: {error}")
        else:
            if flight is None:
                read.end(ReadStatus.DONE)
                return
            peer.flights += 1
            self._flights.append(flight)
            self._launch(flight)

    def advance(self, now: float) -> None:
        """Checks every flight once."""
        for flight in list(self._flights):
            if flight.ended:
                self._release(flight)
                continue
            if flight.read.is_late(now):
                flight.read.report(ReadStatus.LATE, "the deadline passed while the read was in flight")
            try:
                state = self._agent.check(flight.transfer)
            except AgentError as error:
                self._fail(flight, error)
            else:
                if state is TransferState.DONE:
                    self._arrive(flight)

    def report_all(self, message: str) -> None:
        """Reports every read as failed; the flights continue until they settle."""
        for flight in self._flights:
            flight.read.report(ReadStatus.FAILED, message)

    def settle_all(self) -> None:
        """Settles every read. The agent must be destroyed: nothing flies any more."""
        for flight in self._flights:
            flight.read.settle()
        self._flights.clear()

    def _prepare(self, read: ActiveRead, peer: TransferPeer) -> ReadFlight | None:
        """A flight that is not posted; None if there is nothing to move."""
        request = read.request
        remote = peer.offer.region(request.kind)
        if remote is None:
            raise ValueError(f"{peer.name} offers no {request.kind.value} memory")
        target = self._target(request.kind, peer)
        if target is None:
            raise ValueError(f"this worker has no {request.kind.value} memory to read into")
        local, entries = target
        ours, theirs = checked_entries(request, local, remote)
        if not len(ours):
            return None
        transfer = self._agent.make_read(entries, ours, peer.lists[request.kind], theirs)
        return ReadFlight(read, peer, local, transfer)

    def _target(self, kind: RegionKind, peer: TransferPeer) -> tuple[Region, Handle] | None:
        if kind is not RegionKind.PROBE:
            return self._targets.get(kind)
        return None if peer.landing_list is None else (peer.landing.region, peer.landing_list)

    def _launch(self, flight: ReadFlight) -> None:
        flight.attempts += 1
        self.last_change = self._clock()
        try:
            state = self._agent.post(flight.transfer)
        except AgentError as error:
            self._fail(flight, error)
        else:
            if state is TransferState.DONE:
                self._arrive(flight)

    def _arrive(self, flight: ReadFlight) -> None:
        read = flight.read
        if not read.reported and read.is_late(self._clock()):
            read.report(ReadStatus.LATE, "the bytes arrived after the deadline")
        if not read.reported:
            wrong = flight.mismatch()
            if wrong is not None and flight.attempts < _ATTEMPTS:
                self._launch(flight)
                return
            if wrong is not None:
                read.report(ReadStatus.CORRUPT, f"{wrong}, twice")
            else:
                read.report(ReadStatus.DONE, num_bytes=flight.num_bytes)
        flight.peer.last_used = self._clock()
        self._release(flight)

    def _fail(self, flight: ReadFlight, error: AgentError) -> None:
        flight.read.report(ReadStatus.FAILED, str(error))
        self._release(flight)
        self._on_broken(flight.peer, str(error))

    def _release(self, flight: ReadFlight) -> None:
        flight.ended = True
        if not self._agent.release(flight.transfer):
            return
        self.last_change = self._clock()
        self._flights.remove(flight)
        flight.peer.flights -= 1
        flight.read.settle()
