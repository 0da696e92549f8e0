"""A transfer thread in another process that reads for this one, and the pipe between them."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from services.common.errors import TransferFailed
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.rank_messages import (
    Answer,
    Call,
    CallDone,
    CallFailed,
    CloseCall,
    ConnectCall,
    DisconnectCall,
    ReadCall,
    ReadCompleted,
    ReadSettled,
    decode_answer,
    decode_call,
    encode,
    entries_of,
    read_call,
)
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
        return self._call(lambda number: ConnectCall(number, offer))

    def disconnect(self, agent_name: str) -> Future[None]:
        """See TransferThread."""
        return self._call(lambda number: DisconnectCall(number, agent_name))

    def read(self, request: ReadRequest) -> None:
        """See TransferThread."""
        read = ActiveRead(request)
        if not self._send(lambda number: read_call(number, request), read):
            read.end(ReadStatus.FAILED, _GONE)

    def is_alive(self) -> bool:
        """Whether the other process still answers."""
        return not self._gone

    def close(self) -> None:
        """Asks the other side to close its transfer thread; waits at most 5 s for its last answers."""
        self._send(CloseCall, None)
        self._thread.join(_CLOSE_S)

    def _call(self, make: Callable[[int], Call]) -> Future[Any]:
        future: Future[Any] = Future()
        if not self._send(make, future):
            reject(future, TransferFailed(_GONE))
        return future

    def _send(self, make: Callable[[int], Call], pending: Future[Any] | ActiveRead | None) -> bool:
        """Sends a call; False if no answer will come."""
        with self._lock:
            if self._gone:
                return False
            number = next(self._numbers)
            if pending is not None:
                self._pending[number] = pending
        try:
            with self._sending:
                self._pipe.send_bytes(encode(make(number)))
        except OSError:
            with self._lock:
                self._pending.pop(number, None)
            return False
        return True

    def _receive(self) -> None:
        try:
            while True:
                answer = decode_answer(self._pipe.recv_bytes())
                with self._lock:
                    pending = self._pending[answer.number]
                _pass_on(pending, answer)
                if not isinstance(answer, ReadCompleted):
                    with self._lock:
                        del self._pending[answer.number]
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
            call = decode_call(pipe.recv_bytes())
            match call:
                case CloseCall():
                    break
                case ReadCall():
                    transfer.read(_request(call, answers))
                case ConnectCall(number, offer):
                    transfer.connect(offer).add_done_callback(partial(answers.result, number))
                case DisconnectCall(number, agent_name):
                    transfer.disconnect(agent_name).add_done_callback(partial(answers.result, number))
    except (EOFError, OSError):
        pass
    except (msgspec.MsgspecError, ValueError):  # this rank ends, and rank 0 notices that
        logger.exception("a call of rank 0 cannot be decoded")
    transfer.close()
    pipe.close()


class _Answers:
    """Sends answers from several threads, one after the other."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, answer: Answer) -> None:
        """Does nothing if the other process is gone."""
        with self._lock:
            try:
                self._pipe.send_bytes(encode(answer))
            except OSError:
                return

    def result(self, number: int, future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            self.send(CallDone(number, future.result()))
        else:
            self.send(CallFailed(number, getattr(error, "reason", ""), str(error)))


def _request(call: ReadCall, answers: _Answers) -> ReadRequest:
    """The request of a call; what becomes of it goes to the caller."""

    def on_complete(outcome: ReadOutcome) -> None:
        answers.send(ReadCompleted(call.number, outcome))

    return ReadRequest(
        peer=call.peer,
        kind=call.kind,
        local_entries=entries_of(call.local_entries),
        remote_entries=entries_of(call.remote_entries),
        deadline=call.deadline,
        on_complete=on_complete,
        on_settled=lambda: answers.send(ReadSettled(call.number)),
        crc32=call.crc32,
        crc_entries=call.crc_entries,
    )


def _pass_on(pending: Future[Any] | ActiveRead, answer: Answer) -> None:
    """Raises TypeError for an answer that does not fit its call."""
    match answer:
        case ReadCompleted(_, outcome) if isinstance(pending, ActiveRead):
            pending.report(outcome.status, outcome.message, outcome.bytes)
        case ReadSettled() if isinstance(pending, ActiveRead):
            pending.settle()
        case CallFailed() if isinstance(pending, Future):
            reject(pending, answer.error())
        case CallDone(_, report) if isinstance(pending, Future):
            resolve(pending, report)
        case _:
            raise TypeError(f"{type(answer).__name__} does not answer call {answer.number}")
