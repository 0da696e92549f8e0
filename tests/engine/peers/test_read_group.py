"""Reads made under one lease, seen from the event loop."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from services.common.errors import TransferFailed
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus
from services.engine.peers.read_group import ReadGroup
from tests.support.waiting import let_tasks_run


class StrawTransfer:
    """Keeps requests; tests end them."""

    def __init__(self) -> None:
        self.requests: list[ReadRequest] = []

    def read(self, request: ReadRequest) -> None:
        self.requests.append(request)

    def end(self, index: int, status: ReadStatus = ReadStatus.DONE, *, settled: bool = True) -> None:
        bytes_read = 100 if status is ReadStatus.DONE else 0
        self.requests[index].on_complete(ReadOutcome(status, bytes_read, 0.1, f"it is {status.value}"))
        if settled:
            self.requests[index].on_settled()


def group_of(*reads: list[int]) -> tuple[ReadGroup, StrawTransfer]:
    transfer = StrawTransfer()
    group = ReadGroup(transfer, "owner", RegionKind.KV)
    for pages in reads:
        entries = np.array(pages, np.int32)
        group.post(pages, entries, entries + 1, deadline=5.0, crc32=[1] * len(pages), crc_entries=1)
    return group, transfer


async def test_a_read_is_passed_on_as_posted():
    _, transfer = group_of([4, 7])
    request = transfer.requests[0]
    assert (request.peer, request.kind, request.deadline) == ("owner", RegionKind.KV, 5.0)
    assert (list(request.local_entries), list(request.remote_entries)) == ([4, 7], [5, 8])
    assert (request.crc32, request.crc_entries) == ([1, 1], 1)


async def test_completed_waits_for_every_read_and_counts_the_bytes():
    group, transfer = group_of([1], [2])
    waiting = asyncio.create_task(group.completed())
    transfer.end(0)
    await let_tasks_run()
    assert not waiting.done()
    transfer.end(1)
    await asyncio.wait_for(waiting, 1)
    assert group.bytes_read == 200


async def test_completed_waits_while_more_reads_are_to_come():
    group, transfer = group_of([1])
    more = True
    waiting = asyncio.create_task(group.completed(more=lambda: more))
    transfer.end(0)
    await let_tasks_run()
    assert not waiting.done()
    more = False
    group.wake()
    await asyncio.wait_for(waiting, 1)


async def test_completed_of_nothing_returns_at_once():
    group, _ = group_of()
    await asyncio.wait_for(group.completed(), 1)
    await asyncio.wait_for(group.settled(), 1)


@pytest.mark.parametrize("status", [ReadStatus.FAILED, ReadStatus.LATE, ReadStatus.CORRUPT])
async def test_the_first_failure_ends_the_wait_though_other_reads_go_on(status):
    group, transfer = group_of([1], [2])
    waiting = asyncio.create_task(group.completed(more=lambda: True))
    transfer.end(1, status)
    with pytest.raises(TransferFailed, match=f"owner: it is {status.value}"):
        await asyncio.wait_for(waiting, 1)


async def test_pages_are_at_risk_until_their_reads_have_settled_not_just_completed():
    group, transfer = group_of([1, 2], [2, 3])
    transfer.end(0, ReadStatus.LATE, settled=False)
    transfer.end(1)
    await let_tasks_run()
    assert group.pages_at_risk == [1, 2]
    waiting = asyncio.create_task(group.settled())
    await let_tasks_run()
    assert not waiting.done()
    transfer.requests[0].on_settled()
    await asyncio.wait_for(waiting, 1)
    assert group.pages_at_risk == []


def test_news_after_the_event_loop_has_ended_are_dropped():
    async def post() -> StrawTransfer:
        return group_of([1])[1]

    transfer = asyncio.run(post())
    transfer.end(0)
