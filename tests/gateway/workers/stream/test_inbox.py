import asyncio

import pytest

from services.gateway.workers.stream.inbox import Inbox
from tests.support.waiting import let_tasks_run


async def test_news_come_in_order_and_what_is_put_back_comes_first():
    inbox = Inbox()
    for number in range(3):
        inbox.put(number)
    assert inbox.take() == 0
    inbox.put_back(0)
    assert [inbox.take() for _ in range(len(inbox))] == [0, 1, 2]


async def test_a_reader_sleeps_until_something_comes():
    inbox = Inbox()
    reading = asyncio.create_task(inbox.wait())
    await let_tasks_run()
    assert not reading.done()
    inbox.put(1)
    inbox.put(2)
    await asyncio.wait_for(reading, 5)
    assert len(inbox) == 2


async def test_what_comes_for_a_reader_that_was_cancelled_waits_for_the_next_one():
    inbox = Inbox()
    reading = asyncio.create_task(inbox.wait())
    await let_tasks_run()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    inbox.put(1)
    await asyncio.wait_for(inbox.wait(), 5)
    assert inbox.take() == 1


async def test_an_inbox_is_idle_while_its_reader_waits_for_the_first_news():
    inbox = Inbox()
    assert not inbox.idle
    reading = asyncio.create_task(inbox.wait())
    await let_tasks_run()
    assert inbox.idle
    inbox.put(1)
    assert not inbox.idle, "what comes now comes behind it"
    await asyncio.wait_for(reading, 5)
    inbox.take()
    reading = asyncio.create_task(inbox.wait())
    await let_tasks_run()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert not inbox.idle


@pytest.mark.virtual_time
async def test_a_reader_with_a_limit_returns_what_has_come_or_at_the_limit():
    loop, inbox = asyncio.get_running_loop(), Inbox()
    began = loop.time()
    assert not await inbox.wait_until(began + 3.0)
    assert loop.time() == pytest.approx(began + 3.0)
    reading = asyncio.create_task(inbox.wait_until(began + 100.0))
    await let_tasks_run()
    inbox.put(1)
    assert await reading
    assert await inbox.wait_until(began), "what is there counts after the limit too"
    assert loop.time() < began + 4.0
