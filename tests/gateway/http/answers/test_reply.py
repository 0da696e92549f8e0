"""Events, for a client that reads slowly too."""

import asyncio
import json

import pytest

from services.common.errors import InvalidRequest
from services.gateway.http.answers.keep_alive import KeepAlive
from services.gateway.http.answers.one_line import one_line
from services.gateway.http.answers.reply import Reply
from services.gateway.http.shapes.base import encode
from tests.support.virtual_time import advance
from tests.support.waiting import let_tasks_run

# Where str.splitlines ends a line.
BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


SILENT = KeepAlive("none", 1.0)


def empty():
    """An event in which nothing is new."""
    return b"{}"


class Chunks:
    """What a server offers, noting what is written."""

    def __init__(self, bodies):
        self.open = True
        self.written = False
        self._bodies = bodies

    def write(self, data):
        assert self.open
        self.written = True
        self._bodies.append(data)


async def test_events_go_out_at_once_while_the_client_has_room_and_wait_for_it_otherwise():
    bodies, room = [], asyncio.Event()

    async def send(message):
        if message["type"] == "http.response.body":
            await room.wait()
            bodies.append(message["body"])

    chunks, texts = Chunks(bodies), {1: b"1", 4: b""}
    reply = Reply(send, SILENT, chunks)
    assert reply.text_events(texts, b"[", b"]") is None
    await reply.start_events(empty)
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


async def test_streams_that_end_together_are_all_written_before_any_of_them_is_cleaned_up():
    done = []

    async def stream(name):
        async def send(message):
            if message["type"] == "http.response.body":
                done.append(f"{name} written")

        reply = Reply(send, SILENT)
        await reply.start_events(empty)
        await reply.end_events()
        assert reply.ended
        done.append(f"{name} cleaned up")

    await asyncio.gather(stream("first"), stream("second"))
    assert done == ["first written", "second written", "first cleaned up", "second cleaned up"]


async def test_where_a_server_offers_nothing_every_event_is_sent():
    bodies = []

    async def send(message):
        bodies.append(message.get("body"))

    reply = Reply(send, SILENT)
    await reply.start_events(empty)
    assert reply.text_events({}, b"[", b"]") is None
    await reply.event({"a": 1})
    assert bodies == [None, b'data: {"a":1}\n\n']


async def test_an_event_is_one_line_for_every_client_and_the_same_json():
    bodies = []

    async def send(message):
        bodies.append(message.get("body"))

    reply = Reply(send, SILENT, Chunks(bodies))
    await reply.start_events(empty)
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


class Stream:
    """An event stream on virtual time, and what it has sent at which second since its headers."""

    def __init__(self, kind, *, offers=True, seconds=4.0):
        self.sent = []
        self.chunks = Chunks(self) if offers else None
        self.reply = Reply(self._send, KeepAlive(kind, seconds), self.chunks)

    def append(self, body):
        self.sent.append((round(asyncio.get_running_loop().time() - self.began), body.decode()))

    async def begin(self):
        self.began = asyncio.get_running_loop().time()
        await self.reply.start_events(empty)

    async def _send(self, message):
        if message["type"] == "http.response.body":
            self.append(message["body"])


SIGNS = {"comment": ": keep-alive\n\n", "chunk": "data: {}\n\n"}
kinds_and_servers = pytest.mark.parametrize(
    ("kind", "offers"), [(kind, offers) for kind in SIGNS for offers in (True, False)]
)


@pytest.mark.virtual_time
@kinds_and_servers
async def test_a_silent_stream_sends_signs_of_life_until_it_ends(kind, offers):
    stream = Stream(kind, offers=offers)
    await stream.begin()
    await advance(5.5)
    assert stream.sent == [(2, SIGNS[kind]), (4, SIGNS[kind])]
    await stream.reply.event(b"1")
    await advance(1.0)
    await stream.reply.end_events()
    await advance(100.0)
    assert stream.sent[2:] == [(6, "data: 1\n\n"), (6, "data: [DONE]\n\n")]


@pytest.mark.virtual_time
@kinds_and_servers
async def test_a_stream_is_never_silent_for_longer_than_the_setting_and_busy_ones_get_no_signs(kind, offers):
    stream = Stream(kind, offers=offers)
    await stream.begin()
    for pause in (1.9, 1.9, 1.9, 3.0, 0.5):
        await advance(pause)
        await stream.reply.event(b"1")
    events = [body == "data: 1\n\n" for _, body in stream.sent]
    assert events == [True, True, True, False, True, True]
    if offers:
        texts = stream.reply.text_events({1: b"1"}, b"", b"")
        for _ in range(10):
            await advance(1.9)
            texts.write(1)
        assert len(stream.sent) == 16
    stream.reply.close()


@pytest.mark.virtual_time
@pytest.mark.parametrize("end", ["fail", "close"])
async def test_after_a_failure_or_a_lost_client_no_sign_is_sent(end):
    stream = Stream("comment")
    await stream.begin()
    await advance(3.0)
    if end == "fail":
        await stream.reply.fail(InvalidRequest("no"))
    else:
        stream.reply.close()
    before = list(stream.sent)
    await advance(100.0)
    assert stream.sent == before


@pytest.mark.virtual_time
async def test_a_client_that_does_not_read_is_sent_no_sign():
    stream = Stream("chunk")
    await stream.begin()
    stream.chunks.open = False
    await advance(19.0)
    assert stream.sent == []
    stream.chunks.open = True
    await advance(2.0)
    assert stream.sent == [(20, SIGNS["chunk"])]
    stream.reply.close()


@pytest.mark.virtual_time
async def test_by_default_a_silent_stream_sends_nothing():
    stream = Stream("none")
    await stream.begin()
    await advance(1000.0)
    assert stream.sent == []
