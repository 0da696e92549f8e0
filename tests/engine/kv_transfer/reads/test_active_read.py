import logging
import time

import numpy as np
import pytest

from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.read_request import ReadRequest, ReadStatus
from tests.support.manual_clock import ManualClock

ENTRIES = np.zeros(1, dtype=np.int32)


def make_read(events, deadline=float("inf"), on_end=None, clock=time.monotonic):
    request = ReadRequest(
        "peer", RegionKind.KV, ENTRIES, ENTRIES, deadline, events.append, lambda: events.append("settled")
    )
    return ActiveRead(request, on_end, clock)


def test_only_the_first_outcome_and_the_first_settlement_are_told():
    events = []
    read = make_read(events)
    read.report(ReadStatus.LATE)
    read.report(ReadStatus.DONE, num_bytes=4)
    read.settle()
    read.settle()
    assert [getattr(event, "status", event) for event in events] == [ReadStatus.LATE, "settled"]
    assert events[0].bytes == 0


def test_the_end_is_counted_before_the_caller_hears_of_it():
    order = []
    read = make_read(order, on_end=lambda: order.append("counted"))
    read.end(ReadStatus.FAILED, "why")
    assert order[1:] == ["counted", "settled"]
    assert order[0].message == "why"


def test_the_outcome_says_how_long_it_took():
    events = []
    clock = ManualClock()
    read = make_read(events, clock=clock)
    clock.now += 2.5
    read.report(ReadStatus.DONE)
    assert events[0].seconds == 2.5


def test_a_deadline_is_passed_when_it_is_reached():
    read = make_read([], deadline=10.0)
    assert not read.is_late(9.999)
    assert read.is_late(10.0)


def test_a_raising_callback_is_logged_and_the_settlement_still_comes(caplog: pytest.LogCaptureFixture):
    def explode(_outcome):
        raise ValueError("boom")

    events = []
    request = ReadRequest(
        "peer", RegionKind.KV, ENTRIES, ENTRIES, 0.0, explode, lambda: events.append("settled")
    )
    with caplog.at_level(logging.ERROR):
        ActiveRead(request).end(ReadStatus.DONE)
    assert events == ["settled"]
    assert "boom" in caplog.text
