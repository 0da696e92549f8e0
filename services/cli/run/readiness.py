"""Checks the health of services."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import Role

NOT_SERVING = "NOT_SERVING"
_POLL_S = 0.1
_CALL_TIMEOUT_S = 2.0


async def until_healthy(endpoints: Endpoints, role: Role, address: str, service: str = "") -> None:
    """Waits until gRPC health answers SERVING for `service`; "" is the whole server."""
    while await why_not_serving(endpoints, role, address, service) is not None:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)


async def why_not_serving(endpoints: Endpoints, role: Role, address: str, service: str = "") -> str | None:
    """Returns the answer of the health check of `role` at `address`; None if it is SERVING. `service`: whose
    health, by default that of the server as a whole.
    """
    # A new channel each time: one that failed to connect would pause before its next attempt.
    async with endpoints.channel(address, role) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return status
