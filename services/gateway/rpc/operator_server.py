"""The gRPC server for operators, on a port that clients do not reach."""

from __future__ import annotations

from perigee.v1 import admin_pb2_grpc
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.health import DRAINING, Health, add_health
from services.gateway.access.gatekeeper import Gatekeeper
from services.gateway.access.rules import OPERATOR_RPCS
from services.gateway.rpc.admin import AdminServicer
from services.gateway.rpc.key_interceptor import KeyInterceptor
from services.gateway.rpc.log_levels import LogLevels
from services.gateway.workers.pool import WorkerPool

_SERVICE = "perigee.v1.AdminService"


class OperatorServer:
    """AdminService, health and reflection. Made on the event loop."""

    def __init__(
        self,
        pool: WorkerPool,
        levels: LogLevels,
        endpoints: Endpoints,
        gatekeeper: Gatekeeper,
        host: str,
        port: int,
        *,
        share_port: bool,
    ) -> None:
        """`share_port`: with the other processes of this gateway."""
        self._endpoints = endpoints
        self._host, self._wanted = host, port
        self._server = endpoints.grpc_server(
            [KeyInterceptor(gatekeeper, OPERATOR_RPCS, None)], share_port=share_port
        )
        admin_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminServicer(pool, levels, mtls=endpoints.mtls), self._server
        )
        self._pool = pool
        self._health: Health | None = None
        self._serving: set[str] = set()
        self.port = 0

    async def start(self) -> None:
        """Raises ConfigError naming the address when it cannot be bound."""
        self._health = await add_health(self._server, [_SERVICE])
        self.port = self._endpoints.bind_grpc(self._server, self._host, self._wanted, "--operator-port")
        await self._server.start()
        await self._health.say(_SERVICE, serving=True)

    async def say_ready(self, *, ready: bool, workers: bool, draining: bool) -> None:
        """Has this port's health, too, say whether the gateway takes requests, whether every configured role
        has a worker that serves (`workers`), and whether it shuts down.
        """
        if self._health is not None:
            await self._health.say("", serving=ready)
            await self._health.say("workers", serving=workers)
            await self._health.say(DRAINING, serving=draining)

    async def say_workers(self) -> None:
        """Has this port's health know each worker by its address: whether it gets requests."""
        serving = self._pool.serving_addresses()
        if self._health is not None:
            for address in serving ^ self._serving:
                await self._health.say(address, serving=address in serving)
            self._serving = serving

    async def stop(self) -> None:
        """Cancels what runs."""
        await self._server.stop(grace=0)
