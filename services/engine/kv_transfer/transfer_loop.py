"""The transfer thread's loop: it alone talks to NIXL."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal

from services.common.errors import ConfigError, PerigeeError, TransferFailed
from services.engine.kv_transfer.agents.agent import Agent, AgentError
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.pool_device import PoolDevice
from services.engine.kv_transfer.agents.region import Region
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.pairing.peer_table import PeerTable
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.inbox import (
    CheckPath,
    Command,
    CommandInbox,
    Connect,
    Disconnect,
    Stop,
    reject,
    resolve,
)
from services.engine.kv_transfer.reads.probe_buffer import ProbeBuffer
from services.engine.kv_transfer.reads.read_pump import ReadPump
from services.engine.kv_transfer.reads.read_request import ReadStatus

logger = logging.getLogger(__name__)

_BUSY_POLL_S = 0.0002
"""Pause between polls while flights begin and end; a burst of commands delays polls by no more than this."""
_BUSY_FOR_S = 0.02
"""If no flight has begun or ended for so long, e.g. because a peer hangs, a busy core is not worth it."""


class TransferLoop:
    """Carries out the commands of `inbox` with one agent. `run` belongs to the transfer thread.

    Other threads may read `turned`, the time of `clock` at which the last turn began, and `offer`, None until
    the agent is open. `started` gets the report of the self-test or the error that prevents it.
    """

    def __init__(
        self,
        agent: Agent,
        regions: Sequence[Region],
        incarnation: str,
        device: PoolDevice,
        inbox: CommandInbox,
        *,
        is_pinned: Callable[[], bool],
        serving_poll_s: float,
        idle_poll_s: float,
        allow_fallback: bool,
        expected: Literal["any", "rdma"],
        connect_timeout_s: float,
        idle_check_s: float,
        close_grace_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`is_pinned` returns whether peers may read our memory now; the rest is as in TransferThread."""
        self._agent = agent
        self._incarnation = incarnation
        self._regions = tuple(regions)
        self._device = device
        self._probe: ProbeBuffer  # made by the transfer thread, because it may be device memory
        self._inbox = inbox
        self._is_pinned = is_pinned
        self._serving_poll_s, self._idle_poll_s = serving_poll_s, idle_poll_s
        self._expected, self._allow_fallback = expected, allow_fallback
        self._connect_timeout_s, self._idle_check_s = connect_timeout_s, idle_check_s
        self._close_grace_s = close_grace_s
        self._clock = clock
        self.turned = clock()
        self.offer: Offer | None = None
        self.started: Future[TransportReport] = Future()

    def run(self) -> None:
        """Opens the agent, carries out commands until Stop or a failure, and shuts down."""
        pump_and_table: tuple[ReadPump, PeerTable] | None = None
        reason = "the transfer thread is closing"
        try:
            self._device.bind()
            pump_and_table = self._open()
            self._turn_until_stopped(*pump_and_table)
        except (PerigeeError, AgentError) as error:
            reason = f"the transfer thread cannot continue: {error}"
            reject(self.started, error if isinstance(error, PerigeeError) else TransferFailed(str(error)))
        except Exception as error:  # the last barrier: a bug here must not lose anybody's read
            logger.exception("the transfer thread failed")
            reason = f"the transfer thread has ended: {error}"
            reject(self.started, TransferFailed(reason))
        self._shut_down(pump_and_table, reason)

    def _open(self) -> tuple[ReadPump, PeerTable]:
        self._refuse_silent_fallback()
        self._agent.open()
        self._probe = ProbeBuffer(self._device, self._incarnation)
        regions = (*self._regions, self._probe.region)
        for region in regions:
            self._agent.register(region)
        self.offer = Offer(
            self._agent.name, self._agent.metadata(), regions, self._probe.crc32, self._incarnation
        )
        table = PeerTable(
            self._agent,
            self.offer,
            self._device,
            self._objection,
            idle_check_s=self._idle_check_s,
            check_timeout_s=self._connect_timeout_s,
            clock=self._clock,
        )
        targets = {region.kind: (region, self._agent.prepare_local(region)) for region in self._regions}
        pump = table.pump = ReadPump(self._agent, targets, table.broken, self._clock)
        # The self-test is a connection to ourselves: it runs the same code and gives the same report.
        table.connect(Connect(self.offer, self._clock() + self._connect_timeout_s, self.started))
        return pump, table

    def _refuse_silent_fallback(self) -> None:
        obstacle = self._agent.rdma_obstacle(self._device.memory_type) if self._expected == "rdma" else None
        if obstacle is None:
            return
        if not self._allow_fallback:
            raise ConfigError(f"RDMA is expected and no fallback allowed, but {obstacle}")
        logger.warning("RDMA is expected, but %s: falling back", obstacle)

    def _objection(self, report: TransportReport) -> str:
        if self._expected == "rdma" and not self._allow_fallback and not report.rdma:
            return f"RDMA is expected and no fallback allowed, but UCX chose {report.transport}"
        return ""

    def _turn_until_stopped(self, pump: ReadPump, table: PeerTable) -> None:
        looked = 0.0
        while True:
            self.turned = self._clock()
            command = self._inbox.get(self._pause(pump, table))
            if isinstance(command, Stop):
                return
            _handle(command, table)
            now = self._clock()
            if command is None or now - looked >= _BUSY_POLL_S:
                self._agent.poll()
                pump.advance(now)
                table.advance(now)
                looked = now

    def _pause(self, pump: ReadPump, table: PeerTable) -> float:
        if len(pump) and self._clock() - pump.last_change < _BUSY_FOR_S:
            return min(_BUSY_POLL_S, self._serving_poll_s)
        serving = self._is_pinned() or len(pump) or table.awaited()
        return self._serving_poll_s if serving else self._idle_poll_s

    def _shut_down(self, pump_and_table: tuple[ReadPump, PeerTable] | None, reason: str) -> None:
        for command in self._inbox.close():
            _refuse(command, reason)
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


def _handle(command: Command | None, table: PeerTable) -> None:
    if isinstance(command, ActiveRead):
        table.route(command)
    elif isinstance(command, Connect):
        table.connect(command)
    elif isinstance(command, Disconnect):
        table.disconnect(command)
    elif isinstance(command, CheckPath):
        table.check(command)


def _refuse(command: Command, reason: str) -> None:
    if isinstance(command, ActiveRead):
        command.end(ReadStatus.FAILED, reason)
    elif isinstance(command, Connect | CheckPath):
        reject(command.future, TransferFailed(reason))
    elif isinstance(command, Disconnect):
        resolve(command.future, None)
