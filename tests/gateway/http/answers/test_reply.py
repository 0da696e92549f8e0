"""Events, for a client that reads slowly too."""

import asyncio
import json

import pytest

from services.common.errors import InvalidRequest
from services.gateway.http.answers.one_line import one_line
from services.gateway.http.answers.reply import Reply
from services.gateway.http.shapes.base import encode
from tests.support.waiting import let_tasks_run

# Where str.splitlines ends a line.
BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


class Chunks:
    """What a server offers, noting what is written."""

    def __init__(self, bodies):
        self.open = True
        self._bodies = bodies

    def write(self, data):
        assert self.open
        self._bodies.append(data)


async def test_events_go_out_at_once_while_the_client_has_room_and_wait_for_it_otherwise():
    bodies, room = [], asyncio.Event()

    async def send(message):
        if message["type"] == "http.response.body":
            await room.wait()
            bodies.append(message["body"])

    chunks, texts = Chunks(bodies), {1: b"1", 4: b""}
    reply = Reply(send, chunks)
    assert reply.text_events(texts, b"[", b"]") is None
    await reply.start_events()
    events = reply.text_events(texts, b"[", b"]")
    assert events.write(1)
    assert not events.write(4), "its text is none by itself"
    await reply.event(b"2")
    assert bodies == [b"data: [1]\n\n", b"data: 2\n\n"]
    chunks.open = False
    assert not events.write(1)
    waiting = asyncio.create_task(reply.event(b"3"))
    await let_tasks_run()
    assert not waiting.done()
    room.set()
    await asyncio.wait_for(waiting, 5)
    await reply.end_events()
    assert bodies[2:] == [b"data: 3\n\n", b"data: [DONE]\n\n"]


async def test_where_a_server_offers_nothing_every_event_is_sent():
    bodies = []

    async def send(message):
        bodies.append(message.get("body"))

    reply = Reply(send)
    await reply.start_events()
    assert reply.text_events({}, b"[", b"]") is None
    await reply.event({"a": 1})
    assert bodies == [None, b'data: {"a":1}\n\n']


async def test_an_event_is_one_line_for_every_client_and_the_same_json():
    bodies = []

    async def send(message):
        bodies.append(message.get("body"))

    reply = Reply(send, Chunks(bodies))
    await reply.start_events()
    texts = {1: one_line(encode(BREAKS))}
    assert reply.text_events(texts, encode(BREAKS) + b"[", b"]" + encode(BREAKS)).write(1)
    await reply.event(encode([BREAKS]))
    await reply.fail(InvalidRequest(BREAKS))
    events = [body.decode() for body in bodies if body]
    assert [len(event.splitlines()) for event in events] == [2, 2, 2]
    assert json.loads(events[1][6:]) == [BREAKS]
    assert json.loads(events[2][6:])["error"]["message"] == BREAKS


@pytest.mark.parametrize("character", [*BREAKS, "\r\n", "a\u2028b", "\u2027\u202a\u0084\u0086", "é\u20ac"])
def test_json_on_one_line_says_the_same(character):
    made = one_line(encode({character: [character]}))
    assert json.loads(made) == {character: [character]}
    assert len(made.decode().splitlines()) == 1
