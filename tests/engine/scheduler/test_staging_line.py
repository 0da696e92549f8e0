"""Pages handed out in the order they were asked for, whoever leaves the line meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from services.engine.scheduler.staging_line import StagingLine
from tests.support.waiting import let_tasks_run


async def waiting(line: StagingLine, count: int) -> asyncio.Task[list[int]]:
    """Somebody who stands in the line."""
    task = asyncio.create_task(line.take(count))
    await let_tasks_run(1)
    assert not task.done()
    return task


@pytest.mark.parametrize("behind", [1, 4])
async def test_pages_that_come_back_in_the_moment_somebody_leaves_go_to_those_behind(behind):
    line = StagingLine(4)
    held = await line.take(4)
    leaver, other = await waiting(line, 2), await waiting(line, behind)
    leaver.cancel()  # it has had no chance yet to leave the line
    line.give(held)
    assert len(await other) == behind
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert line.available() == 4 - behind
    line.check_integrity()


async def test_many_who_leave_at_once_leave_nothing_behind():
    line = StagingLine(4)
    held = await line.take(3)
    leavers = [await waiting(line, count) for count in (2, 4, 3, 2)]
    for leaver in leavers:
        leaver.cancel()
    line.give(held[:1])
    line.give(held[1:])
    await asyncio.gather(*leavers, return_exceptions=True)
    assert all(leaver.cancelled() for leaver in leavers)
    assert line.available() == 4
    line.give(await line.take(4))
    line.check_integrity()
