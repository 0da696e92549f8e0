"""Clients that send no whole request cost nobody else anything. `test_request_timers.py` has the times."""

import asyncio
import contextlib

from tests.gateway.http.connection.test_request_protocol import SMUGGLED, TOKENIZE, Client, post
from tests.gateway.suite import open_suite, wait_until

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n"


@contextlib.asynccontextmanager
async def clients(suite, count, data=b""):
    opened = [await Client.open(suite) for _ in range(count)]
    for client in opened:
        client.send(data)
    try:
        yield opened
    finally:
        for client in opened:
            client.writer.close()


async def test_bodies_that_do_not_come_take_no_place_from_others():
    async with open_suite(max_concurrent_requests=2) as suite, clients(suite, 20, HEAD + b"{"):
        assert (await suite.chat()).status_code == 200


async def test_headers_that_do_not_come_are_refused_in_time():
    async with open_suite(header_timeout_seconds=0.2) as suite, clients(suite, 1, HEAD[:30]) as (client,):
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_is_idle_is_closed():
    async with open_suite(keep_alive_seconds=1) as suite, clients(suite, 1, post(TOKENIZE)) as (idle,):
        assert (await idle.answer())[0] == 200
        assert await idle.rest() == b""


async def test_headers_over_the_limit_are_refused_however_they_come():
    chunks = b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    async with open_suite(max_header_bytes=2000) as suite:
        for data in [
            b"GET /" + b"x" * 3000,
            b"GET / HTTP/1.1\r\nx: " + b"x" * 3000,
            b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
            b"\r\n" * 3000,
            chunks + b"1\r\n \r\n0\r\nx: " + b"x" * 3000,
            chunks + b"1\r\n \r\n0\r\n" + b"x: y\r\n" * 1000,
            chunks + b"1;" + b"x" * 3000,
        ]:
            async with clients(suite, 2) as (whole, cut):
                # What is in one segment with the end of something else is not counted.
                whole.send(data)
                for start in range(0, len(data), 500):
                    cut.send(data[start : start + 500])
                    # Makes each a segment; a refused connection reads no more, so nothing can be counted.
                    await asyncio.sleep(0.002)
                if data.startswith(chunks):
                    whole.send(b"x" * 3000)
                for client in (whole, cut):
                    status, answer = await client.answer()
                    assert status == 431, (data[:80], answer)
                    assert "2000 bytes" in answer["error"]["message"]
                    assert await client.rest() == b""
        assert (await suite.http.get("/v1/models", headers={"x": "y" * 1500})).status_code == 200


async def test_the_connection_that_waits_longest_makes_room():
    async with open_suite(max_waiting_connections=10) as suite:
        suite.say("word " * 200)
        suite.decode.step_s = 0.01
        streaming = asyncio.create_task(suite.stream(max_tokens=7000))
        await wait_until(lambda: suite.decode.sent)
        for beginning in (b"", HEAD + b"{", b"GET / HT"):
            async with clients(suite, 30, beginning) as held:
                assert (await suite.chat(max_tokens=1)).status_code == 200
                answers = [await client.rest() for client in held[:15]]
                # Nothing where the place was needed before the first byte was there.
                assert {answer[:12] for answer in answers} <= {b"HTTP/1.1 503", b""}
                held[-1].send(SMUGGLED[len(beginning) :] if beginning != HEAD + b"{" else b"")
        assert len(await streaming) > 50


async def test_bytes_held_are_bounded_and_the_longest_unfinished_body_makes_room(received):
    long = b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\n" + b" " * 50_000
    async with open_suite(max_held_bytes=100_000, max_body_bytes=100_000) as suite:
        async with clients(suite, 2, long):
            await wait_until(lambda: received.count == 2 * len(long))
            async with clients(suite, 1, post(b" " * 10_000 + TOKENIZE)) as (short,):
                assert (await short.answer())[0] == 200
            async with clients(suite, 1, post(b" " * 70_000 + TOKENIZE)) as (longer,):
                status, answer = await longer.answer()
                assert (status, answer["error"]["type"]) == (429, "rate_limit_error")
        assert (await suite.chat()).status_code == 200


async def test_requests_that_fail_before_they_are_admitted_are_counted():
    async with open_suite(body_timeout_seconds=0.2) as suite, clients(suite, 1, HEAD) as (client,):
        assert (await client.answer())[0] == 408
        page = (await suite.http.get("/metrics")).text
        assert 'perigee_requests_total{door="rest",outcome="invalid"} 1.0' in page
