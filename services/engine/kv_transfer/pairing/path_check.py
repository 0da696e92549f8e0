"""Checks a path for an operator: reads the peer's probe many times and verifies every round."""

from __future__ import annotations

from collections.abc import Callable

from services.common.errors import PerigeeError, TransferFailed
from services.engine.kv_transfer.agents.transport_report import PathReport, TransportReport
from services.engine.kv_transfer.pairing.pair_probe import probe_read
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.inbox import CheckPath, reject, resolve
from services.engine.kv_transfer.reads.peer import PeerState, TransferPeer
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadStatus


class PathCheck:
    """One check, from the command until no byte of it can land any more. Transfer thread only.

    Stricter than the probe of a connect: it clears the landing buffer before each round, verifies each round,
    and does not read again if bytes differ. It reads one round per turn of the thread, so that other reads
    proceed between rounds.
    """

    def __init__(self, command: CheckPath, round_timeout_s: float, clock: Callable[[], float]) -> None:
        """`round_timeout_s`: how long a round waits for a hung owner."""
        self._command = command
        self._round_timeout_s = round_timeout_s
        self._clock = clock
        self._began: float | None = None
        self._done = 0
        self._bytes = 0
        self._best = 0.0
        self._flying = False

    @property
    def over(self) -> bool:
        """Whether the check is answered or its caller gave up, and the landing buffer is free."""
        return self._command.future.done() and not self._flying

    def fail(self, error: PerigeeError) -> None:
        """Answers with `error`; a round in flight must still settle."""
        reject(self._command.future, error)

    def next_round(self, peer: TransferPeer, now: float) -> ActiveRead | None:
        """A read to post at once, if the peer is ready and the last round has settled; else None."""
        if self._flying or self._command.future.done():
            return None
        if now >= self._command.deadline:
            self.fail(TransferFailed(self._out_of_time(peer)))
            return None
        return self._new_round(peer) if peer.state is PeerState.READY else None

    def _new_round(self, peer: TransferPeer) -> ActiveRead:
        outcomes: list[ReadOutcome] = []

        def completed(outcome: ReadOutcome) -> None:
            outcomes.append(outcome)
            if outcome.status is not ReadStatus.DONE:
                self._fail_round(peer, f"{outcome.status.value}: {outcome.message}")

        def settled() -> None:
            self._flying = False
            if outcomes[0].status is ReadStatus.DONE:
                self._verify(peer, outcomes[0])

        peer.landing.clear()
        self._flying = True
        now = self._clock()
        if self._began is None:
            self._began = now
        deadline = min(self._command.deadline, now + self._round_timeout_s)
        return probe_read(peer.offer, deadline, completed, settled, self._clock)

    def _verify(self, peer: TransferPeer, outcome: ReadOutcome) -> None:
        found, expected = peer.landing.crc32, peer.offer.probe_crc32
        if found != expected:
            self._fail_round(peer, f"the CRC-32 is {found:08x}, its owner announced {expected:08x}")
            return
        self._done += 1
        self._bytes += outcome.bytes
        self._best = max(self._best, outcome.gigabytes_per_second)
        if self._done == self._command.rounds and peer.report is not None and self._began is not None:
            path = TransportReport(peer.report.transport, self._best, peer.report.rdma)
            seconds = self._clock() - self._began
            resolve(self._command.future, PathReport(path, self._bytes, found, seconds))

    def _fail_round(self, peer: TransferPeer, why: str) -> None:
        place = f"round {self._done + 1} of {self._command.rounds}"
        self.fail(TransferFailed(f"{peer.name} cannot be read: {place}: {why}"))

    def _out_of_time(self, peer: TransferPeer) -> str:
        if self._began is None:
            return f"{peer.name} was not ready in time: {peer.state.value}"
        return f"{peer.name}: only {self._done} of {self._command.rounds} rounds ended before the deadline"
