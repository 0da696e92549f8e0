"""Channels reach servers that are slow to answer a new connection."""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.endpoints import open_channel

SLOW_S = 0.6
"""Three times the pause before a failed connection is tried again."""


async def test_a_server_that_is_slow_to_greet_a_connection_is_waited_for(serving):
    async with serving() as direct:
        target = direct.target
        connections = 0

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await asyncio.sleep(SLOW_S)  # gRPC core limits an attempt by its own clock
            up_reader, up_writer = await asyncio.open_connection(*target.split(":"))
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

        proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        async with open_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        proxy.close()
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert connections == 1


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies until the end of one side."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
    finally:
        writer.close()
