"""Clients of an event stream: old ones, and ones that read slowly, get all of it in order."""

import asyncio
import json
import socket
from types import SimpleNamespace

from uvicorn.protocols.http.flow_control import FlowControl

from services.common.rpc.endpoints import Endpoints
from services.gateway.http.connection.streaming_protocol import BodyChunks
from tests.gateway.suite import chat_body, open_suite, parse_events, wait_until

LONG = "word " * 2000


async def post(suite, version="1.1", *, keep=False):
    """A streamed chat over a socket of its own."""
    port = suite.http.base_url.port
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    writer.write(request(version, "keep-alive" if keep else "close"))
    return reader, writer


def request(version, connection):
    body = json.dumps(chat_body(stream=True, max_tokens=7000)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/{version}\r\nhost: localhost\r\nconnection: {connection}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def with_small_buffers(listener):
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listener


def text_of(raw):
    """The text of a whole answer, its chunks put together."""
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b" 200 OK" in head
    assert b"transfer-encoding: chunked" in head
    pieces = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        pieces.append(body[:length])
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
        if not length:
            break
    assert not body
    chunks = parse_events(b"".join(pieces).decode())
    return "".join(each["choices"][0]["delta"].get("reasoning_content") or "" for each in chunks)


async def read_all(reader):
    async with asyncio.timeout(60):
        pieces = []
        while piece := await reader.read(1 << 16):
            pieces.append(piece)
        return b"".join(pieces)


async def test_a_client_that_stops_reading_for_a_while_misses_nothing(monkeypatch):
    paused = []
    pause, bind = FlowControl.pause_writing, Endpoints.bound_socket
    monkeypatch.setattr(FlowControl, "pause_writing", lambda flow: paused.append(pause(flow)))
    monkeypatch.setattr(Endpoints, "bound_socket", lambda *at, **how: with_small_buffers(bind(*at, **how)))
    async with open_suite() as suite:
        suite.say(LONG)
        suite.decode.step_s = 0.0005  # so that the gateway keeps up, and nearly every token is an event
        reader, writer = await post(suite)
        await wait_until(lambda: paused and suite.decode.sent > 3500, 60)
        assert text_of(await read_all(reader)) == LONG
        writer.close()


async def test_a_client_of_http_1_0_gets_the_same_without_chunks(suite):
    suite.say("word " * 100)
    reader, writer = await post(suite, "1.0", keep=True)
    head, _, body = (await read_all(reader)).partition(b"\r\n\r\n")
    writer.close()
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    chunks = parse_events(body.decode())
    assert (
        "".join(each["choices"][0]["delta"].get("reasoning_content") or "" for each in chunks)
        == "word " * 100
    )
    assert body.endswith(b"data: [DONE]\n\n")


async def test_a_client_that_sends_two_requests_and_goes_away_has_the_first_cancelled(suite, received):
    suite.say("word " * 3000)
    suite.decode.step_s = 0.01
    reader, writer = await post(suite, keep=True)
    await reader.read(100)
    second = request("1.1", "keep-alive")
    received.count = 0
    writer.write(second)
    await wait_until(lambda: received.count == len(second))
    writer.close()
    await asyncio.wait_for(suite.decode.cancelled.wait(), 5)
    await wait_until(lambda: suite.gateway.pool.decode.workers[0].session.active == 0, 5)


def test_what_comes_for_a_connection_that_is_lost_is_dropped():
    written = []
    transport = SimpleNamespace(is_closing=lambda: len(written) == 1, write=written.append)
    chunks = BodyChunks(SimpleNamespace(write_paused=False), transport)
    chunks.write(b"data")
    chunks.write(b"more")
    assert written == [b"4\r\ndata\r\n"]
