"""The start of an answer is one write, in order with all else that its connection sends."""

import asyncio

import pytest
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from services.gateway.http.connection.answer_transport import AnswerTransport
from services.gateway.http.connection.streaming_protocol import StreamingProtocol
from tests.support.waiting import let_tasks_run


class RealTransport:
    """Notes what is done to it."""

    def __init__(self):
        self.done = []
        self.lost = False

    def write(self, data):
        self.done.append(bytes(data))

    def write_eof(self):
        self.done.append("eof")

    def close(self):
        self.done.append("closed")

    def is_closing(self):
        return self.lost

    def get_extra_info(self, name):
        return name.upper()


@pytest.fixture
def real():
    return RealTransport()


@pytest.fixture
async def transport(real):
    return AnswerTransport(real, asyncio.get_running_loop())


async def test_what_an_answer_writes_in_its_first_turn_goes_out_together_and_the_rest_at_once(
    real, transport
):
    transport.begin()
    transport.write(b"head ")
    transport.write(b"first ")
    assert real.done == []
    await let_tasks_run()
    assert real.done == [b"head first "]
    transport.write(b"second")
    assert real.done == [b"head first ", b"second"]


async def test_what_is_written_before_any_answer_goes_out_at_once(real, transport):
    transport.write(b"refusal")
    assert real.done == [b"refusal"]


async def test_the_answer_goes_out_before_the_connection_ends(real, transport):
    for end, done in ((transport.close, "closed"), (transport.write_eof, "eof")):
        real.done.clear()
        transport.begin()
        transport.write(b"all")
        end()
        assert real.done == [b"all", done]
        await let_tasks_run()
        assert real.done == [b"all", done]


async def test_an_answer_that_is_over_goes_out_at_once_and_leaves_the_next_one_its_turn(real, transport):
    transport.begin()
    transport.write(b"one")
    transport.flush()
    assert real.done == [b"one"]
    transport.begin()
    await let_tasks_run()
    transport.write(b"t")
    transport.write(b"wo")
    assert real.done == [b"one"]
    await let_tasks_run()
    assert real.done == [b"one", b"two"]


async def test_much_goes_out_before_the_turn_is_over(real, transport):
    transport.begin()
    transport.write(b"head")
    transport.write(b"x" * HIGH_WATER_LIMIT)
    assert real.done == [b"head" + b"x" * HIGH_WATER_LIMIT]
    transport.write(b"more")
    assert real.done[1:] == [b"more"]


async def test_a_connection_that_is_lost_in_that_turn_gets_nothing(real, transport):
    transport.begin()
    transport.write(b"head")
    real.lost = True
    await let_tasks_run()
    assert real.done == []


async def test_all_else_is_the_real_transports(transport):
    assert transport.get_extra_info("peername") == "PEERNAME"


class CountedTransport:
    """The real transport of a connection, whose writes are counted."""

    def __init__(self, transport, writes):
        self._transport = transport
        self._writes = writes

    def write(self, data):
        self._writes.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name):
        return getattr(self._transport, name)


@pytest.fixture
def writes(monkeypatch):
    """What is written to connections, one entry for each write."""
    noted, made = [], StreamingProtocol.connection_made
    monkeypatch.setattr(
        StreamingProtocol, "connection_made", lambda self, real: made(self, CountedTransport(real, noted))
    )
    return noted


async def test_an_answer_that_is_all_there_is_one_write(suite, writes):
    suite.say("Hi")
    answer = await suite.chat()
    (written,) = writes
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.endswith(b"\r\n\r\n" + answer.content)


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/completions", {"prompt": "Hi"}),
        ("/generate", {"text": "Hi"}),
    ],
)
async def test_the_finish_of_a_stream_its_usage_and_the_end_mark_are_one_write(suite, writes, path, prompt):
    suite.say("word " * 20)
    suite.decode.step_s = 0.001
    body = {**prompt, "stream": True, "stream_options": {"include_usage": True}}
    answer = await suite.http.post(path, json=body)
    events = answer.text.split("\n\n")
    assert b"".join(writes).count(b"[DONE]") == 1
    last = writes[-1].decode()
    assert len(writes) > 2, "the stream began before it ended"
    assert events[-2] == "data: [DONE]"
    # The finish, the usage where this route has one, and the end mark.
    count = 1 if path == "/generate" else 2
    assert all(event in last for event in events[-2 - count : -1])
