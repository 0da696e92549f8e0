"""Events for a client that reads slowly."""

import asyncio

import pytest

from services.gateway.http.reply import Reply


class Client:
    """An ASGI server's `send`, which waits while the client does not read."""

    def __init__(self):
        self.bodies = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def send(self, message):
        await self._room()
        if message["type"] == "http.response.body":
            self.bodies.append(message["body"])

    async def _room(self):
        if not self.reads.is_set():
            await self.reads.wait()


@pytest.fixture
async def client():
    return Client()


async def test_an_event_is_sent_at_once_where_the_client_has_room(client):
    reply = Reply(client.send)
    assert not reply.ready
    await reply.start_events()
    assert reply.ready
    reply.event_now(b"1")
    assert client.bodies == [b"data: 1\n\n"]
    assert reply.ready


async def test_while_one_waits_for_room_no_other_is_taken_and_later_ones_stay_behind_it(client):
    reply = Reply(client.send)
    await reply.start_events()
    client.reads.clear()
    reply.event_now(b"1")
    assert not reply.ready
    going_on = asyncio.create_task(reply.event(b"2"))
    await asyncio.sleep(0.01)
    assert client.bodies == []
    client.reads.set()
    await asyncio.wait_for(going_on, 5)
    await reply.end_events()
    assert client.bodies == [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]
    assert reply.ready


async def test_what_waited_goes_out_by_itself_once_there_is_room(client):
    reply = Reply(client.send)
    await reply.start_events()
    client.reads.clear()
    reply.event_now(b"1")
    client.reads.set()
    await asyncio.sleep(0.01)
    assert client.bodies == [b"data: 1\n\n"]
    assert reply.ready
