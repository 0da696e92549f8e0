"""Health and reflection of a gRPC server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.common.rpc.reflection import add_reflection

DRAINING = "draining"
"""Checks of this name answer SERVING while the server admits nothing new."""


class Health:
    """The health of a server as a whole and of each of its services; they change together."""

    def __init__(self, services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
        self._services = ("", *services)

    async def set_serving(self) -> None:
        """From now on checks answer SERVING."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def set_not_serving(self) -> None:
        """From now on checks answer NOT_SERVING."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def say(self, ability: str, *, serving: bool) -> None:
        """Has checks of this name (a service's, an ability's, "" for the server) say whether it serves."""
        kinds = health_pb2.HealthCheckResponse
        await self.servicer.set(ability, kinds.SERVING if serving else kinds.NOT_SERVING)

    async def _set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in self._services:
            await self.servicer.set(service, status)


async def add_health(server: grpc.aio.Server, services: Iterable[str]) -> Health:
    """Adds health (NOT_SERVING until told otherwise) and reflection; `services` are full names such as
    perigee.v1.ChatService. Call before the server starts."""
    names = list(services)
    state = Health(names)
    await state.set_not_serving()
    health_pb2_grpc.add_HealthServicer_to_server(state.servicer, server)
    add_reflection(server, [*names, health.SERVICE_NAME])
    return state
