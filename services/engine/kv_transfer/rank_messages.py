"""The messages between rank 0 and a rank that reads for it: plain values, checked while decoding."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from services.common.errors import Incompatible, PerigeeError, TransferFailed
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest

_ERRORS: dict[str, type[PerigeeError]] = {cls.reason: cls for cls in (Incompatible, TransferFailed)}


class _Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`number` names the call that the message begins or answers."""

    number: int


class ConnectCall(_Message, frozen=True, tag=True, forbid_unknown_fields=True):
    """Asks for TransferThread.connect."""

    offer: Offer


class DisconnectCall(_Message, frozen=True, tag=True, forbid_unknown_fields=True):
    """Asks for TransferThread.disconnect."""

    agent_name: str


class ReadCall(_Message, frozen=True, tag=True, forbid_unknown_fields=True):
    """Asks for TransferThread.read. The entries are int32 `[n]` as they lie in memory; one machine has one
    monotonic clock, so the deadline holds there too.
    """

    peer: str
    kind: RegionKind
    local_entries: bytes
    remote_entries: bytes
    deadline: float
    crc32: tuple[int, ...] | None
    crc_entries: int


class CloseCall(_Message, frozen=True, tag=True, forbid_unknown_fields=True):
    """Asks for TransferThread.close; has no answer."""


class ReadCompleted(_Message, frozen=True, tag=True, forbid_unknown_fields=True):
    """The outcome of a read; ReadSettled follows."""

    outcome: ReadOutcome


class ReadSettled(_Message, frozen=True, tag=True, forbid_unknown_fields=True):
    """No byte of the read can land any more."""


class CallDone(_Message, frozen=True, tag=True, forbid_unknown_fields=True):
    """The result of a connect (a report) or disconnect (None)."""

    report: TransportReport | None


class CallFailed(_Message, frozen=True, tag=True, forbid_unknown_fields=True):
    """The error of a connect or disconnect."""

    reason: str
    message: str

    def error(self) -> PerigeeError:
        """The error; TransferFailed in place of one that these calls do not document."""
        return _ERRORS.get(self.reason, TransferFailed)(self.message)


Call = ConnectCall | DisconnectCall | ReadCall | CloseCall
Answer = ReadCompleted | ReadSettled | CallDone | CallFailed

_CALLS: msgspec.msgpack.Decoder[Call] = msgspec.msgpack.Decoder(Call)
_ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Call | Answer) -> bytes:
    """The bytes to send."""
    return msgspec.msgpack.encode(message)


def decode_call(data: bytes) -> Call:
    """The call. Raises msgspec.MsgspecError for any other bytes."""
    return _CALLS.decode(data)


def decode_answer(data: bytes) -> Answer:
    """The answer. Raises msgspec.MsgspecError for any other bytes."""
    return _ANSWERS.decode(data)


def read_call(number: int, request: ReadRequest) -> ReadCall:
    """The call for a request, without its callbacks."""
    return ReadCall(
        number,
        request.peer,
        request.kind,
        _raw(request.local_entries),
        _raw(request.remote_entries),
        request.deadline,
        None if request.crc32 is None else tuple(map(int, request.crc32)),
        request.crc_entries,
    )


def entries_of(raw: bytes) -> npt.NDArray[np.int32]:
    """The entries of a ReadCall. Raises ValueError if they are no whole numbers of 4 bytes."""
    return np.frombuffer(raw, dtype=np.int32)


def _raw(entries: npt.NDArray[np.int32]) -> bytes:
    return np.ascontiguousarray(entries, dtype=np.int32).tobytes()
