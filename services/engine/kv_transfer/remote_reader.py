"""A transfer thread in another process that reads for this one, and the pipe between them."""

from __future__ import annotations

import itertools
import logging
import threading
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from services.common.errors import TransferFailed
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.inbox import reject, resolve
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus
from services.engine.kv_transfer.transfer_thread import TransferThread

logger = logging.getLogger(__name__)

_GONE = "the process of another rank is gone"
_CLOSE_S = 5.0
_LOOK_S = 1.0


class RemoteReader:
    """The calling side. Every method may be called from any thread; callbacks run on the thread that receives
    the answers. When the other process ends, all pending calls and reads fail, and no byte lands any more.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._sending = threading.Lock()  # its own: a full pipe must block senders only, not the receiver
        self._numbers = itertools.count()
        self._pending: dict[int, Future[Any] | ActiveRead] = {}
        self._gone = False
        self._thread = threading.Thread(target=self._receive, name="rank-reads", daemon=True)
        self._thread.start()

    def connect(self, offer: Offer) -> Future[TransportReport]:
        """See TransferThread."""
        return self._call("connect", offer)

    def disconnect(self, agent_name: str) -> Future[None]:
        """See TransferThread."""
        return self._call("disconnect", agent_name)

    def read(self, request: ReadRequest) -> None:
        """See TransferThread. The deadline holds there too: one machine has one monotonic clock."""
        read = ActiveRead(request)
        if not self._send("read", replace(request, on_complete=_ignored, on_settled=_ignored), read):
            read.end(ReadStatus.FAILED, _GONE)

    def is_alive(self) -> bool:
        """Whether the other process still answers."""
        return not self._gone

    def close(self) -> None:
        """Asks the other side to close its transfer thread; waits at most 5 s for its last answers."""
        self._send("close", None, None)
        self._thread.join(_CLOSE_S)

    def _call(self, kind: str, value: object) -> Future[Any]:
        future: Future[Any] = Future()
        if not self._send(kind, value, future):
            reject(future, TransferFailed(_GONE))
        return future

    def _send(self, kind: str, value: object, pending: Future[Any] | ActiveRead | None) -> bool:
        """Sends a command; False if no answer will come."""
        with self._lock:
            if self._gone:
                return False
            number = next(self._numbers)
            if pending is not None:
                self._pending[number] = pending
        try:
            with self._sending:
                self._pipe.send((number, kind, value))
        except OSError:
            with self._lock:
                self._pending.pop(number, None)
            return False
        return True

    def _receive(self) -> None:
        try:
            while True:
                number, kind, value = self._pipe.recv()
                with self._lock:
                    pending = self._pending[number] if kind == "outcome" else self._pending.pop(number)
                _pass_on(pending, kind, value)
        except (EOFError, OSError):
            self._fail_all(settled=True)
        except Exception:  # barrier: callers must learn that no more answers are received
            logger.exception("another rank's answer cannot be decoded")
            self._fail_all(settled=False)  # the other process may still run, and its reads may still land
        with self._sending:
            self._pipe.close()

    def _fail_all(self, *, settled: bool) -> None:
        with self._lock:
            self._gone = True
            left = list(self._pending.values())
            self._pending.clear()
        for pending in left:
            if not isinstance(pending, ActiveRead):
                reject(pending, TransferFailed(_GONE))
            elif settled:
                pending.end(ReadStatus.FAILED, _GONE)
            else:
                pending.report(ReadStatus.FAILED, _GONE)


def serve_reads(pipe: Connection, transfer: TransferThread) -> None:
    """The serving side. Runs until the other side closes or is gone, or the transfer thread is stuck. Closes
    both.
    """
    answers = _Answers(pipe)
    try:
        while transfer.is_alive():
            if not pipe.poll(_LOOK_S):
                continue
            number, kind, value = pipe.recv()
            if kind == "close":
                break
            if kind == "read":
                on_complete = partial(answers.send, number, "outcome")
                on_settled = partial(answers.send, number, "settled", None)
                transfer.read(replace(value, on_complete=on_complete, on_settled=on_settled))
            else:
                future: Future[Any] = (
                    transfer.connect(value) if kind == "connect" else transfer.disconnect(value)
                )
                future.add_done_callback(partial(answers.result, number))
    except (EOFError, OSError):
        pass
    transfer.close()
    pipe.close()


class _Answers:
    """Sends answers from several threads, one after the other."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, number: int, kind: str, value: object) -> None:
        """Does nothing if the other process is gone."""
        with self._lock:
            try:
                self._pipe.send((number, kind, value))
            except OSError:
                return

    def result(self, number: int, future: Future[Any]) -> None:
        error = future.exception()
        self.send(number, "error" if error else "result", error or future.result())


def _pass_on(pending: Future[Any] | ActiveRead, kind: str, value: Any) -> None:
    if isinstance(pending, ActiveRead):
        if kind == "outcome":
            assert isinstance(value, ReadOutcome)
            pending.report(value.status, value.message, value.bytes)
        else:
            pending.settle()
    elif kind == "error":
        reject(pending, value)
    else:
        resolve(pending, value)


def _ignored(*_: object) -> None:
    """Replaces a callback that cannot be called from another process."""
