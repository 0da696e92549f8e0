from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.run.readiness import until_healthy
from tests.support.endpoints import ENDPOINTS, bind, build_server

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVING = health_pb2.HealthCheckResponse.SERVING


class Health(health_pb2_grpc.HealthServicer):
    """Gives the answers in `left`, one per check; the last one to all checks after it."""

    def __init__(self) -> None:
        self.left = [SERVING]

    async def Check(self, request, context):
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "not now")
        return health_pb2.HealthCheckResponse(status=answer)


@pytest.fixture
async def server():
    """The address and the health of a started server."""
    server, health = build_server(), Health()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    yield f"127.0.0.1:{port}", health
    await server.stop(None)


async def test_a_server_is_asked_until_it_says_it_serves(server):
    address, health = server
    health.left = [NOT_SERVING, grpc.StatusCode.UNAVAILABLE, NOT_SERVING, SERVING]
    async with asyncio.timeout(60):
        await until_healthy(ENDPOINTS, "decode", address)
    assert health.left == [SERVING]
