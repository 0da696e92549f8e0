"""What two ranks tell each other about reads arrives as it was, and nothing else is taken for it."""

from __future__ import annotations

import pickle

import msgspec
import numpy as np
import pytest

from services.common.errors import Incompatible, TransferFailed
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.rank_messages import (
    CallDone,
    CallFailed,
    CloseCall,
    ConnectCall,
    DisconnectCall,
    ReadCompleted,
    ReadSettled,
    decode_answer,
    decode_call,
    encode,
    entries_of,
    read_call,
)
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus

OFFER = Offer(
    "prefill-1",
    bytes(range(256)),
    (Region(RegionKind.KV, (1 << 63) + 4096, 73_728, 250_000, 3, "VRAM"), Region(RegionKind.PROBE, 64, 8, 2)),
    0xFFFF_FFFF,
    "prefill-1",
)
REQUEST = ReadRequest(
    "prefill-1",
    RegionKind.KV,
    np.arange(0, 12, 2, dtype=np.int64),
    np.arange(12, 0, -2, dtype=np.int32)[::-1],
    1234.5,
    lambda outcome: None,
    lambda: None,
    [np.uint32(0xFFFF_FFFF), 7],
    3,
)


class Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a message was unpickled",)


@pytest.mark.parametrize("call", [ConnectCall(1, OFFER), DisconnectCall(2, "prefill-1"), CloseCall(3)])
def test_calls_arrive_as_they_were(call):
    assert decode_call(encode(call)) == call


def test_a_read_arrives_as_it_was():
    call = decode_call(encode(read_call(9, REQUEST)))
    assert (call.number, call.peer, call.kind, call.deadline) == (9, "prefill-1", RegionKind.KV, 1234.5)
    assert entries_of(call.local_entries).tolist() == [0, 2, 4, 6, 8, 10]
    assert entries_of(call.remote_entries).tolist() == [2, 4, 6, 8, 10, 12]
    assert (call.crc32, call.crc_entries) == ((0xFFFF_FFFF, 7), 3)


@pytest.mark.parametrize(
    "answer",
    [
        ReadCompleted(1, ReadOutcome(ReadStatus.LATE, 0, 0.25, "too late")),
        ReadSettled(1),
        CallDone(2, TransportReport("rc_mlx5", 42.5, True)),
        CallDone(2, None),
        CallFailed(2, "INCOMPATIBLE", "another layout"),
    ],
)
def test_answers_arrive_as_they_were(answer):
    assert decode_answer(encode(answer)) == answer


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("INCOMPATIBLE", Incompatible), ("TRANSFER_FAILED", TransferFailed), ("os.system", TransferFailed)],
)
def test_an_error_is_one_of_those_that_are_documented(reason, kind):
    error = CallFailed(1, reason, "why").error()
    assert (type(error), error.message) == (kind, "why")


@pytest.mark.parametrize("decode", [decode_call, decode_answer])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        pickle.dumps(Bomb()),
        encode(ReadSettled(1))[:-1],
        msgspec.msgpack.encode({"type": "Other", "number": 1}),
        msgspec.msgpack.encode({"type": "CloseCall", "number": "1"}),
        msgspec.msgpack.encode({"type": "ReadSettled", "number": 1, "more": 1}),
        msgspec.msgpack.encode({"type": "CallDone", "number": 1}),
    ],
)
def test_other_bytes_are_refused_and_never_unpickled(decode, data):
    with pytest.raises(msgspec.MsgspecError):
        decode(data)


def test_an_offer_of_an_impossible_region_is_refused():
    wire = encode(ConnectCall(1, OFFER)).replace(b"VRAM", b"DISK")
    with pytest.raises(msgspec.ValidationError, match="memory_type"):
        decode_call(wire)
