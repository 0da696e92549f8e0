from __future__ import annotations

from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.health import add_health
from tests.support.endpoints import bind, build_server, open_channel

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_is_not_serving_until_it_is_said_to_be():
    server = build_server()
    health = await add_health(server, ["perigee.v1.ChatService"])
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "perigee.v1.ChatService"):
            request = health_pb2.HealthCheckRequest(service=service)
            assert (await stub.Check(request)).status == NOT_SERVING
            await health.set_serving()
            assert (await stub.Check(request)).status == SERVING
            await health.set_not_serving()
    await server.stop(None)
