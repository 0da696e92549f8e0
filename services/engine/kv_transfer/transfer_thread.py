"""The one thread of a process that talks to NIXL: reads peers' memory and serves their reads of ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal

from services.common.errors import ConfigError, PerigeeError, TransferFailed
from services.engine.kv_transfer.agents.agent import Agent, AgentError
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.agents.transport_report import PathReport, TransportReport
from services.engine.kv_transfer.pairing.peer_table import PeerTable
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.inbox import (
    CheckPath,
    Command,
    CommandInbox,
    Connect,
    Disconnect,
    Stop,
    Wake,
    reject,
    resolve,
)
from services.engine.kv_transfer.reads.probe_buffer import ProbeBuffer
from services.engine.kv_transfer.reads.read_pump import ReadPump
from services.engine.kv_transfer.reads.read_request import ReadRequest, ReadStatus

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_CHECK_TIMEOUT_S = 60.0
_BUSY_POLL_S = 0.0002
"""While flights come and go; also the longest that a burst of commands keeps the agent from being polled."""
_BUSY_FOR_S = 0.02
"""Flights that have not moved for so long (of a hung peer, say) are not worth a busy core."""


class TransferThread:
    """Owns an agent. Every method may be called from any thread, `start` first and `close` last.

    A read ends in exactly one outcome and one settlement, also at `close`, when its peer dies and when a
    callback raises. NIXL cannot cancel: a read that is late or failed for the caller keeps its handle until
    NIXL is done.
    """

    def __init__(
        self,
        agent: Agent,
        regions: Sequence[Region],
        incarnation: str,
        *,
        serving_poll_s: float = 0.001,
        idle_poll_s: float = 0.005,
        allow_fallback: bool = True,
        expected: Literal["any", "rdma"] = "any",
        connect_timeout_s: float = 5.0,
        idle_check_s: float = 60.0,
        close_grace_s: float = 1.0,
        stuck_after_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`regions` (at most one of a kind, no PROBE) stay in place until `close` has returned.

        Polls are at most `serving_poll_s` apart while serving is pinned, `idle_poll_s` otherwise. A peer
        unused for `idle_check_s` is probed before its next read. `close` waits up to `close_grace_s` for
        flights to settle. A call of NIXL's that takes longer than `stuck_after_s` never returns. Deadlines
        of reads are times of `clock`.
        """
        kinds = [region.kind for region in regions]
        if RegionKind.PROBE in kinds or len(set(kinds)) != len(kinds):
            raise ValueError("regions must be of different kinds, none of them PROBE")
        self._agent = agent
        self._incarnation = incarnation
        self._regions = tuple(regions)
        self._probe = ProbeBuffer(incarnation)
        self._serving_poll_s, self._idle_poll_s = serving_poll_s, idle_poll_s
        self._expected, self._allow_fallback = expected, allow_fallback
        self._connect_timeout_s, self._idle_check_s = connect_timeout_s, idle_check_s
        self._close_grace_s, self._stuck_after_s = close_grace_s, stuck_after_s
        self._clock = clock
        self._inbox = CommandInbox()
        self._lock = threading.Lock()
        self._unsettled = 0
        self._pins = 0
        self._turned = 0.0
        self._offer: Offer | None = None
        self._started: Future[TransportReport] = Future()
        self._thread = threading.Thread(target=self._run, name="kv-transfer", daemon=True)

    def start(self) -> TransportReport:
        """Opens the agent, registers the memory and reads the own probe; reports on that path to itself.

        Raises ConfigError where RDMA is expected, impossible and no fallback is allowed, or where NIXL
        refuses; TransferFailed where the self-test fails.
        """
        self._turned = self._clock()
        self._thread.start()
        try:
            return self._started.result(_START_TIMEOUT_S)
        except TimeoutError as error:
            raise TransferFailed("the transport self-test did not end") from error

    def offer(self) -> Offer:
        """What peers need to read this worker. Raises TransferFailed before `start`."""
        if self._offer is None:
            raise TransferFailed("the transfer thread has not started")
        return self._offer

    def connect(self, offer: Offer) -> Future[TransportReport]:
        """Pairs with a peer incarnation: prepares its lists, reads and verifies its probe.

        Idempotent per agent name; a broken peer begins anew. Reads may be sent at once, they wait. The future
        raises Incompatible (layout, or a fallback that is not allowed) or TransferFailed (unreachable, or not
        in `connect_timeout_s`).
        """
        future: Future[TransportReport] = Future()
        command = Connect(offer, self._clock() + self._connect_timeout_s, future)
        if not self._inbox.put(command):
            reject(future, TransferFailed("the transfer thread is closed"))
        return future

    def disconnect(self, agent_name: str) -> Future[None]:
        """Fails the peer's waiting reads, lets those in flight end, then forgets it. Idempotent.

        The future resolves when it is forgotten: with a hung peer, not before it goes on or dies.
        """
        future: Future[None] = Future()
        if not self._inbox.put(Disconnect(agent_name, future)):
            resolve(future, None)
        return future

    def check(self, agent_name: str, rounds: int) -> Future[PathReport]:
        """Reads a connected peer's probe `rounds` times (1 or more), verifying every round. Cancelling the
        future ends it after the round in flight.

        The future raises Overloaded while another check of the peer runs, and TransferFailed: not connected,
        not readable, wrong bytes, a round that did not end in `connect_timeout_s`, or all of them not in a
        minute.
        """
        future: Future[PathReport] = Future()
        if not self._inbox.put(CheckPath(agent_name, rounds, self._clock() + _CHECK_TIMEOUT_S, future)):
            reject(future, TransferFailed("the transfer thread is closed"))
        return future

    def read(self, request: ReadRequest) -> None:
        """Accepts a read; never raises and never blocks. After `close` the callbacks run on the caller's
        thread.
        """
        with self._lock:
            self._unsettled += 1
        read = ActiveRead(request, on_end=self._on_read_end, clock=self._clock)
        if not self._inbox.put(read):
            read.end(ReadStatus.FAILED, "the transfer thread is closed")

    def pin_serving(self) -> None:
        """Somebody may read our memory: poll fast. Counted."""
        with self._lock:
            self._pins += 1
        self._inbox.put(Wake())

    def unpin_serving(self) -> None:
        """Undoes one `pin_serving`. Raises ValueError where there is none."""
        with self._lock:
            if not self._pins:
                raise ValueError("serving is not pinned")
            self._pins -= 1

    def set_serving(self, serving: bool) -> None:
        """`pin_serving` or `unpin_serving`, for a lessor's `on_serving`."""
        if serving:
            self.pin_serving()
        else:
            self.unpin_serving()

    def in_flight(self) -> int:
        """Reads accepted and not settled."""
        with self._lock:
            return self._unsettled

    def is_alive(self) -> bool:
        """Whether reads are carried out. False before `start`, after `close`, when NIXL itself gave up and
        when one of its calls does not return: UCX may poll a dead connection without end.
        """
        return self._turns()

    def close(self) -> None:
        """Fails what waits, gives flights `close_grace_s` to settle, destroys the agent, settles the rest.

        Behind a call of NIXL's that does not return it gives up and answers nobody: the process has to end.
        """
        self._inbox.put(Stop())
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join(self._close_grace_s + self._stuck_after_s if self._turns() else 0.0)
            if self._thread.is_alive():
                logger.error("a call of NIXL's has not returned: the transfer thread is left behind")

    def _turns(self) -> bool:
        return self._thread.is_alive() and self._clock() - self._turned < self._stuck_after_s

    def _on_read_end(self) -> None:
        with self._lock:
            self._unsettled -= 1

    def _run(self) -> None:
        pump_and_table: tuple[ReadPump, PeerTable] | None = None
        reason = "the transfer thread is closing"
        try:
            pump_and_table = self._open()
            self._loop(*pump_and_table)
        except (PerigeeError, AgentError) as error:
            reason = f"the transfer thread cannot go on: {error}"
            reject(self._started, error if isinstance(error, PerigeeError) else TransferFailed(str(error)))
        except Exception as error:  # the last barrier: a defect here must not lose anybody's read
            logger.exception("the transfer thread ends by a defect")
            reason = f"the transfer thread has ended: {error}"
            reject(self._started, TransferFailed(reason))
        self._shut_down(pump_and_table, reason)

    def _open(self) -> tuple[ReadPump, PeerTable]:
        self._refuse_silent_fallback()
        self._agent.open()
        regions = (*self._regions, self._probe.region)
        for region in regions:
            self._agent.register(region)
        self._offer = Offer(
            self._agent.name, self._agent.metadata(), regions, self._probe.crc32, self._incarnation
        )
        table = PeerTable(
            self._agent,
            self._offer,
            self._objection,
            idle_check_s=self._idle_check_s,
            check_timeout_s=self._connect_timeout_s,
            clock=self._clock,
        )
        targets = {region.kind: (region, self._agent.prepare_local(region)) for region in self._regions}
        pump = table.pump = ReadPump(self._agent, targets, table.broken, self._clock)
        # The self-test is a connection to ourselves: the same code, the same verdict.
        table.connect(Connect(self._offer, self._clock() + self._connect_timeout_s, self._started))
        return pump, table

    def _refuse_silent_fallback(self) -> None:
        obstacle = self._agent.rdma_obstacle() if self._expected == "rdma" else None
        if obstacle is None:
            return
        if not self._allow_fallback:
            raise ConfigError(f"RDMA is expected and no fallback allowed, but {obstacle}")
        logger.warning("RDMA is expected, but %s: falling back", obstacle)

    def _objection(self, report: TransportReport) -> str:
        if self._expected == "rdma" and not self._allow_fallback and not report.rdma:
            return f"RDMA is expected and no fallback allowed, but UCX chose {report.transport}"
        return ""

    def _loop(self, pump: ReadPump, table: PeerTable) -> None:
        looked = 0.0
        while True:
            self._turned = self._clock()
            command = self._inbox.get(self._pause(pump, table))
            if isinstance(command, Stop):
                return
            self._handle(command, table)
            now = self._clock()
            if command is None or now - looked >= _BUSY_POLL_S:
                self._agent.poll()
                pump.advance(now)
                table.advance(now)
                looked = now

    def _pause(self, pump: ReadPump, table: PeerTable) -> float:
        if len(pump) and self._clock() - pump.last_change < _BUSY_FOR_S:
            return min(_BUSY_POLL_S, self._serving_poll_s)
        serving = self._pins or len(pump) or table.awaited()
        return self._serving_poll_s if serving else self._idle_poll_s

    def _handle(self, command: Command | None, table: PeerTable) -> None:
        if isinstance(command, ActiveRead):
            table.route(command)
        elif isinstance(command, Connect):
            table.connect(command)
        elif isinstance(command, Disconnect):
            table.disconnect(command)
        elif isinstance(command, CheckPath):
            table.check(command)

    def _shut_down(self, pump_and_table: tuple[ReadPump, PeerTable] | None, reason: str) -> None:
        for command in self._inbox.close():
            if isinstance(command, ActiveRead):
                command.end(ReadStatus.FAILED, reason)
            elif isinstance(command, Connect | CheckPath):
                reject(command.future, TransferFailed(reason))
            elif isinstance(command, Disconnect):
                resolve(command.future, None)
        if pump_and_table is not None:
            pump, table = pump_and_table
            table.refuse_everything(reason)
            pump.report_all(reason)
            self._wait_for_flights(pump)
        self._agent.close()
        if pump_and_table is not None:
            pump_and_table[0].settle_all()

    def _wait_for_flights(self, pump: ReadPump) -> None:
        give_up = self._clock() + self._close_grace_s
        while len(pump) and self._clock() < give_up:
            try:
                self._agent.poll()
            except AgentError:
                return
            pump.advance(self._clock())
            time.sleep(_BUSY_POLL_S)
