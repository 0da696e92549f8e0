import asyncio

import grpc
import pytest

from services.gateway.workers.session_reader import SessionReader
from tests.support.manual_clock import ManualClock
from tests.support.waiting import let_tasks_run


class Call:
    """What the worker has sent is there at once; the rest comes when it is put."""

    def __init__(self, *sent):
        self._sent = asyncio.Queue()
        for each in sent:
            self.put(each)

    def put(self, response):
        self._sent.put_nowait(response)

    async def read(self):
        response = await self._sent.get()
        if isinstance(response, Exception):
            raise response
        return response


async def test_responses_that_wait_are_given_together_once_the_loop_is_behind():
    call = Call(0)
    # No time passes between the end of what the first one woke and the next one.
    reader = SessionReader(call, ManualClock())
    assert await reader.next() == [0]
    for number in range(1, 5):
        call.put(number)
    assert await reader.next() == [1, 2, 3, 4]
    reader.close()


async def test_a_response_that_comes_alone_is_given_without_waiting_for_more():
    call, clock = Call(), ManualClock()
    reader = SessionReader(call, clock)
    for number in range(3):
        reading = asyncio.create_task(reader.next())
        await let_tasks_run()
        clock.now += 0.01
        call.put(number)
        call.put(number)
        assert await asyncio.wait_for(reading, 5) == [number]
        assert await asyncio.wait_for(reader.next(), 5) == [number]
    reader.close()


async def test_nothing_is_given_at_the_end_and_everything_before_it():
    reader = SessionReader(Call(1, 2, grpc.aio.EOF))
    given = []
    while responses := await asyncio.wait_for(reader.next(), 5):
        given += responses
    assert given == [1, 2]


async def test_a_worker_that_never_stops_sending_does_not_keep_the_streams_waiting():
    class Endless:
        async def read(self):
            await let_tasks_run(1)
            return 1

    reader = SessionReader(Endless())
    assert 1 <= len(await asyncio.wait_for(reader.next(), 5)) <= 32
    reader.close()


async def test_what_the_call_fails_with_is_raised_behind_what_came_before():
    reader = SessionReader(Call(1, 2, ConnectionError("gone")))
    assert await asyncio.wait_for(reader.next(), 5) == [1, 2]
    with pytest.raises(ConnectionError, match="gone"):
        await asyncio.wait_for(reader.next(), 5)
