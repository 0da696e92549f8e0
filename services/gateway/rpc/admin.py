"""AdminService: carries out operator commands through each worker's WorkerService."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, worker_pb2
from services.common.errors import NotFound, PreconditionFailed
from services.common.rpc.status import from_rpc_error
from services.gateway.rpc.calls import Context
from services.gateway.rpc.log_levels import LogLevels
from services.gateway.workers.flush import flush_workers
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import WorkerPool

_CALL_TIMEOUT_S = 10.0
# A worker reports a change of its state within 50 ms; on a busy machine later.
_POLL_S, _MOST_POLLS = 0.02, 150
# Two handshakes' time and a minute of rounds, which the reader bounds itself.
_CHECK_TIMEOUT_S = 90.0


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Reads the pool's links. Drains one worker at a time, so that two drains at once cannot empty a role."""

    def __init__(self, pool: WorkerPool, levels: LogLevels, *, mtls: bool) -> None:
        """`mtls`: how the gateway connects to its workers."""
        self._pool = pool
        self._levels = levels
        self._mtls = mtls
        self._draining = asyncio.Lock()

    async def ListWorkers(
        self, request: admin_pb2.ListWorkersRequest, context: Context
    ) -> admin_pb2.ListWorkersResponse:
        return admin_pb2.ListWorkersResponse(workers=[_status(link, self._mtls) for link in self._pool.links])

    async def Flush(
        self, request: admin_pb2.FlushWorkersRequest, context: Context
    ) -> admin_pb2.FlushWorkersResponse:
        return admin_pb2.FlushWorkersResponse(workers=await flush_workers(self._pool))

    async def DrainWorker(
        self, request: admin_pb2.DrainWorkerRequest, context: Context
    ) -> admin_pb2.DrainWorkerResponse:
        link = self._known(request.address, "address")
        async with self._draining:
            if not request.force and link.serving and not self._others_serve(link):
                raise PreconditionFailed(
                    f"{link.address} is the last {link.role_name} worker that serves; start another one "
                    "first, or drain it with --force (the request's field force)"
                )
            try:
                answer = await link.stub.Drain(worker_pb2.DrainRequest(), timeout=_CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error).about(f"worker {link.address}") from error
            await _reported(lambda: not link.admits)
        return admin_pb2.DrainWorkerResponse(outstanding=answer.outstanding)

    async def UndrainWorker(
        self, request: admin_pb2.UndrainWorkerRequest, context: Context
    ) -> admin_pb2.UndrainWorkerResponse:
        link = self._known(request.address, "address")
        try:
            await link.stub.Undrain(worker_pb2.UndrainRequest(), timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error).about(f"worker {link.address}") from error
        await _reported(lambda: link.admits)
        return admin_pb2.UndrainWorkerResponse()

    async def CheckTransfer(
        self, request: admin_pb2.CheckWorkersRequest, context: Context
    ) -> worker_pb2.CheckTransferResponse:
        reader = self._known(request.reader, "reader")
        owner = self._known(request.owner, "owner")
        check = worker_pb2.CheckTransferRequest(address=owner.address, role=owner.role, rounds=request.rounds)
        try:
            answer: worker_pb2.CheckTransferResponse = await reader.stub.CheckTransfer(
                check, timeout=_CHECK_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error).about(f"reader {reader.address}") from error
        return answer

    async def SetLogLevel(
        self, request: admin_pb2.SetLogLevelsRequest, context: Context
    ) -> admin_pb2.SetLogLevelsResponse:
        changed = await self._levels.set(request.level, request.address)
        return admin_pb2.SetLogLevelsResponse(services=changed)

    def _others_serve(self, link: WorkerLink) -> bool:
        return any(
            other.serving for other in self._pool.links if other.role == link.role and other is not link
        )

    def _known(self, address: str, field: str) -> WorkerLink:
        link = self._pool.find(address)
        if link is None:
            known = ", ".join(link.address for link in self._pool.links)
            raise NotFound(f"no worker {address!r} is known; known: {known}", field)
        return link


async def _reported(arrived: Callable[[], bool]) -> None:
    """Waits until the worker's report shows its new state, so that the next command finds it.

    Gives up after 3 s.
    """
    for _ in range(_MOST_POLLS):
        if arrived():
            return
        await asyncio.sleep(_POLL_S)


def _status(link: WorkerLink, mtls: bool) -> admin_pb2.WorkerStatus:
    if link.info is None:
        # Only the configured role of an unreachable worker is known.
        unknown = worker_pb2.WorkerInfo(role=link.role)
        return admin_pb2.WorkerStatus(
            address=link.address, discovered=link.discovered, info=unknown, mtls=mtls
        )
    return admin_pb2.WorkerStatus(
        address=link.address, reachable=True, discovered=link.discovered, info=link.info, load=link.load,
        mtls=mtls, paused=link.circuit.open,
    )  # fmt: skip
