"""The one thread of a process that talks to NIXL: reads peers' memory and serves their reads of ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal

from services.common.errors import TransferFailed
from services.engine.kv_transfer.agents.agent import Agent
from services.engine.kv_transfer.agents.device_choice import device_of
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.pool_device import PoolDevice
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.agents.transport_report import PathReport, TransportReport
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.inbox import (
    CheckPath,
    CommandInbox,
    Connect,
    Disconnect,
    Stop,
    Wake,
    reject,
    resolve,
)
from services.engine.kv_transfer.reads.read_request import ReadRequest, ReadStatus
from services.engine.kv_transfer.transfer_loop import TransferLoop

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_CHECK_TIMEOUT_S = 60.0
_SECOND_CHANCE_S = 1.0


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
        device: PoolDevice | None = None,
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
        """`regions` (at most one of a kind, no PROBE) must stay in place until `close` has returned.
        `device`: the one that holds them; None: as they say.

        Polls are at most `serving_poll_s` apart while serving is pinned, `idle_poll_s` otherwise. A peer
        unused for `idle_check_s` is probed before its next read. `close` waits up to `close_grace_s` for
        flights to settle. A NIXL call that takes longer than `stuck_after_s` counts as stuck. Deadlines of
        reads are times of `clock`.
        """
        kinds = [region.kind for region in regions]
        if RegionKind.PROBE in kinds or len(set(kinds)) != len(kinds):
            raise ValueError("regions must be of different kinds, none of them PROBE")
        self._connect_timeout_s = connect_timeout_s
        self._close_grace_s, self._stuck_after_s = close_grace_s, stuck_after_s
        self._clock = clock
        self._inbox = CommandInbox()
        self._lock = threading.Lock()
        self._unsettled = 0
        self._pins = 0
        self._late_since: float | None = None
        self._loop = TransferLoop(
            agent,
            regions,
            incarnation,
            device or device_of(regions),
            self._inbox,
            is_pinned=lambda: self._pins > 0,
            serving_poll_s=serving_poll_s,
            idle_poll_s=idle_poll_s,
            allow_fallback=allow_fallback,
            expected=expected,
            connect_timeout_s=connect_timeout_s,
            idle_check_s=idle_check_s,
            close_grace_s=close_grace_s,
            clock=clock,
        )
        self._thread = threading.Thread(target=self._loop.run, name="kv-transfer", daemon=True)

    def start(self) -> TransportReport:
        """Opens the agent, registers the memory and reads its own probe; reports on that path to itself.

        Raises ConfigError if RDMA is expected but impossible and no fallback is allowed, or if NIXL refuses;
        TransferFailed if the self-test fails.
        """
        self._loop.turned = self._clock()
        self._thread.start()
        try:
            return self._loop.started.result(_START_TIMEOUT_S)
        except TimeoutError as error:
            raise TransferFailed("the transport self-test did not end") from error

    def offer(self) -> Offer:
        """What peers need to read this worker. Raises TransferFailed before `start`."""
        if self._loop.offer is None:
            raise TransferFailed("the transfer thread has not started")
        return self._loop.offer

    def connect(self, offer: Offer) -> Future[TransportReport]:
        """Pairs with a peer incarnation: prepares its lists, reads and verifies its probe.

        Idempotent per agent name; a broken peer is connected again. Reads may be sent at once: they wait. The
        future raises Incompatible (layout, or a fallback that is not allowed) or TransferFailed (unreachable,
        or not within `connect_timeout_s`).
        """
        future: Future[TransportReport] = Future()
        command = Connect(offer, self._clock() + self._connect_timeout_s, future)
        if not self._inbox.put(command):
            reject(future, TransferFailed("the transfer thread is closed"))
        return future

    def disconnect(self, agent_name: str) -> Future[None]:
        """Fails the peer's waiting reads, lets those in flight end, then forgets it. Idempotent.

        The future resolves when the peer is forgotten; with a hung peer, only after it resumes or dies.
        """
        future: Future[None] = Future()
        if not self._inbox.put(Disconnect(agent_name, future)):
            resolve(future, None)
        return future

    def check(self, agent_name: str, rounds: int) -> Future[PathReport]:
        """Reads a connected peer's probe `rounds` times (1 or more) and verifies every round. Cancelling the
        future ends the check after the round in flight.

        The future raises Overloaded while another check of the peer runs, and TransferFailed: not connected,
        not readable, wrong bytes, a round that did not end within `connect_timeout_s`, or all of them not
        within a minute.
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
        """Polls at the serving rate from now on, because peers may read our memory. Counted."""
        with self._lock:
            self._pins += 1
        self._inbox.put(Wake())

    def unpin_serving(self) -> None:
        """Undoes one `pin_serving`. Raises ValueError if there is none."""
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
        """Number of reads that are accepted and not settled."""
        with self._lock:
            return self._unsettled

    def is_alive(self) -> bool:
        """Whether reads are carried out. False before `start`, after `close`, when NIXL itself failed, and
        when one of its calls does not return: UCX may poll a dead connection forever.

        A process that was stopped for a while finds all of its threads late: the thread counts as stuck only
        if it still is `_SECOND_CHANCE_S` after a caller saw it late. Call it from one thread, repeatedly.
        """
        if self._turns() or not self._thread.is_alive():
            self._late_since = None
            return self._thread.is_alive()
        now = self._clock()
        if self._late_since is None:
            self._late_since = now
        return now - self._late_since < _SECOND_CHANCE_S

    def close(self) -> None:
        """Fails what waits, gives flights `close_grace_s` to settle, destroys the agent, settles the rest.

        If a NIXL call does not return, it gives up and answers no caller: the process must end.
        """
        self._inbox.put(Stop())
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join(self._close_grace_s + self._stuck_after_s if self._turns() else 0.0)
            if self._thread.is_alive():
                logger.error("a NIXL call has not returned: the transfer thread is left behind")

    def _turns(self) -> bool:
        return self._thread.is_alive() and self._clock() - self._loop.turned < self._stuck_after_s

    def _on_read_end(self) -> None:
        with self._lock:
            self._unsettled -= 1
