"""Commands from other threads to the transfer thread."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, TypeVar

from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.transport_report import PathReport, TransportReport
from services.engine.kv_transfer.reads.active_read import ActiveRead

_T = TypeVar("_T")


@dataclass(frozen=True)
class Connect:
    """Pair with the owner of an offer, or fail by `deadline` (time.monotonic)."""

    offer: Offer
    deadline: float
    future: Future[TransportReport]


@dataclass(frozen=True)
class Disconnect:
    """Forget a peer once none of its transfers is in flight."""

    agent_name: str
    future: Future[None]


@dataclass(frozen=True)
class CheckPath:
    """Read the probe of a connected peer `rounds` times, or fail by `deadline` (time.monotonic)."""

    agent_name: str
    rounds: int
    deadline: float
    future: Future[PathReport]


@dataclass(frozen=True)
class Wake:
    """Look for work sooner than otherwise."""


@dataclass(frozen=True)
class Stop:
    """End the thread."""


Command = ActiveRead | Connect | Disconnect | CheckPath | Wake | Stop


class CommandInbox:
    """A queue of commands; closing it loses no command that is put at the same moment."""

    def __init__(self) -> None:
        """Starts open and empty."""
        self._queue: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False

    def put(self, command: Command) -> bool:
        """Queues a command. False once closed: then the caller must answer it."""
        with self._lock:
            if not self._closed:
                self._queue.put(command)
            return not self._closed

    def get(self, timeout_s: float) -> Command | None:
        """The oldest command; None if none arrives within `timeout_s`."""
        try:
            return self._queue.get(timeout_s > 0, timeout_s)
        except queue.Empty:
            return None

    def close(self) -> list[Command]:
        """Accepts no more commands; returns what is left, oldest first."""
        with self._lock:
            self._closed = True
        left = []
        while (command := self.get(0)) is not None:
            left.append(command)
        return left


def resolve(future: Future[_T], result: _T) -> None:
    """Sets a result, unless the waiter gave up and cancelled."""
    try:
        future.set_result(result)
    except InvalidStateError:
        return


def reject(future: Future[Any], error: Exception) -> None:
    """Sets an exception, unless the waiter gave up and cancelled."""
    try:
        future.set_exception(error)
    except InvalidStateError:
        return
