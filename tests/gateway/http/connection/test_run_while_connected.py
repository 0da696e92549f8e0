"""Work in its caller's task ends with its client, and its caller can still be cancelled like any task."""

import asyncio

import pytest

from services.common.errors import Cancelled
from services.gateway.http.connection.disconnect import run_while_connected
from tests.support.waiting import let_tasks_run


class Client:
    """`leave` makes `receive` report the disconnect."""

    def __init__(self):
        self._left = asyncio.Event()
        self.leave = self._left.set

    async def receive(self):
        await self._left.wait()
        return {"type": "http.disconnect"}


async def endless(ended):
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(True)


async def test_work_is_cancelled_and_unwound_when_its_client_leaves_and_the_caller_goes_on():
    client, ended = Client(), []
    asyncio.get_running_loop().call_soon(client.leave)
    with pytest.raises(Cancelled):
        await run_while_connected(client.receive, endless(ended))
    assert ended
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_a_client_that_leaves_behind_its_answer_cancels_nobody():
    client = Client()

    async def answer():
        client.leave()

    await run_while_connected(client.receive, answer())
    await let_tasks_run()
    assert asyncio.current_task().cancelling() == 0


async def test_a_client_that_leaves_once_all_is_answered_does_not_end_the_clean_up_behind_it():
    client, cleaned = Client(), []

    async def answer():
        client.leave()
        await let_tasks_run()
        cleaned.append(True)

    await run_while_connected(client.receive, answer(), lambda: True)
    assert cleaned
    assert asyncio.current_task().cancelling() == 0


async def test_the_works_own_failure_is_the_callers_whether_its_client_left_meanwhile_or_not():
    async def fails(client):
        try:
            client.leave()
            await asyncio.Event().wait()
        finally:
            raise ValueError("the work's own")

    client = Client()
    with pytest.raises(ValueError, match="own"):
        await run_while_connected(client.receive, fails(client))
    assert asyncio.current_task().cancelling() == 0


@pytest.mark.parametrize("client_leaves", [False, True])
async def test_a_cancelled_caller_is_cancelled_whether_its_client_left_too_or_not(client_leaves):
    client, ended = Client(), []
    running = asyncio.create_task(run_while_connected(client.receive, endless(ended)))
    await let_tasks_run()
    if client_leaves:
        client.leave()
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert ended
    assert running.cancelled() or isinstance(running.exception(), Cancelled)
    if not client_leaves:
        assert running.cancelled()


async def test_a_connection_that_cannot_be_read_is_one_whose_client_left():
    async def broken():
        raise OSError("reset")

    with pytest.raises(Cancelled):
        await run_while_connected(broken, endless([]))


async def test_a_time_limit_around_it_ends_in_a_time_out():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await run_while_connected(Client().receive, endless([]))
