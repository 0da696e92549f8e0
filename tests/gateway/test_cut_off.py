"""What still runs at the end of the grace ends with an error that says so."""

import asyncio

import pytest

from services.common.errors import ShuttingDown
from services.gateway.cut_off import CutOff
from tests.support.waiting import let_tasks_run


async def test_a_block_that_waits_ends_with_shutting_down_and_its_task_goes_on():
    cut_off, after = CutOff(), asyncio.Event()

    async def work():
        with pytest.raises(ShuttingDown), cut_off.watched():
            await asyncio.Event().wait()
        await after.wait()  # a last event, say
        return asyncio.current_task().cancelling()

    task = asyncio.create_task(work())
    await let_tasks_run()
    assert cut_off.now() == 1
    await let_tasks_run()
    assert not task.done()
    after.set()
    assert await task == 0


async def test_blocks_within_blocks_of_one_task_are_ended_once():
    cut_off = CutOff()

    async def work():
        with cut_off.watched(), cut_off.watched():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await let_tasks_run()
    assert (cut_off.now(), cut_off.now()) == (1, 0)
    with pytest.raises(ShuttingDown):
        await task


async def test_a_cancellation_by_others_stays_one():
    cut_off = CutOff()

    async def work():
        with cut_off.watched():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await let_tasks_run()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_block_that_has_ended_is_left_alone():
    cut_off = CutOff()
    with cut_off.watched():
        pass
    assert cut_off.now() == 0
    await let_tasks_run()
