from __future__ import annotations

import asyncio

import pytest

from services.cli.run.readiness import until_healthy
from services.common.rpc.server import add_health, bind, build_server


@pytest.fixture
async def server():
    """A bound, started server and its health."""
    server = build_server()
    health = await add_health(server, [])
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    yield f"127.0.0.1:{port}", health
    await server.stop(None)


@pytest.fixture
async def web():
    """An HTTP door that answers /ready with the status in its list."""
    status = [b"503 Service Unavailable"]

    async def answer(reader, writer):
        line = await reader.readline()
        found = status[0] if line.startswith(b"GET /ready ") else b"404 Not Found"
        writer.write(b"HTTP/1.1 " + found + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", status
    server.close()


async def test_a_server_is_waited_for_until_it_says_it_serves(server):
    address, health = server
    waiting = asyncio.ensure_future(until_healthy(address))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await health.set_serving()
    await asyncio.wait_for(waiting, 5)


async def test_the_http_door_has_to_answer_too(server, web):
    address, health = server
    http_address, status = web
    await health.set_serving()
    waiting = asyncio.ensure_future(until_healthy(address, http_address))
    await asyncio.sleep(0.4)
    assert not waiting.done()
    status[0] = b"200 OK"
    await asyncio.wait_for(waiting, 5)
