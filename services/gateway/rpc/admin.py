"""AdminService: what an operator asks, answered over the workers' own WorkerService."""

from __future__ import annotations

import grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, worker_pb2
from services.common.errors import NotFound, Unavailable
from services.common.rpc.status import from_rpc_error
from services.gateway.rpc.context import Context
from services.gateway.workers.flush import flush_workers
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import WorkerPool

_CALL_TIMEOUT_S = 10.0
# Two handshakes' time and a minute of rounds, which the reader bounds itself.
_CHECK_TIMEOUT_S = 90.0


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Reads the pool's links; keeps no state of its own."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    async def ListWorkers(
        self, request: admin_pb2.ListWorkersRequest, context: Context
    ) -> admin_pb2.ListWorkersResponse:
        return admin_pb2.ListWorkersResponse(workers=[_status(link) for link in self._pool.links])

    async def FlushCache(
        self, request: admin_pb2.FlushCacheRequest, context: Context
    ) -> admin_pb2.FlushCacheResponse:
        dropped = await flush_workers(self._pool)
        return admin_pb2.FlushCacheResponse(pages=dropped.pages, embeddings=dropped.embeddings)

    async def DrainWorker(
        self, request: admin_pb2.DrainWorkerRequest, context: Context
    ) -> admin_pb2.DrainWorkerResponse:
        link = self._known(request.address, "address")
        try:
            answer = await link.stub.Drain(worker_pb2.DrainRequest(), timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"worker {link.address}: {from_rpc_error(error).message}") from error
        return admin_pb2.DrainWorkerResponse(outstanding=answer.outstanding)

    async def CheckTransfer(
        self, request: admin_pb2.CheckWorkersRequest, context: Context
    ) -> worker_pb2.CheckTransferResponse:
        reader = self._known(request.reader, "reader")
        owner = self._known(request.owner, "owner")
        check = worker_pb2.CheckTransferRequest(address=owner.address, rounds=request.rounds)
        try:
            answer: worker_pb2.CheckTransferResponse = await reader.stub.CheckTransfer(
                check, timeout=_CHECK_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error).about(f"reader {reader.address}") from error
        return answer

    def _known(self, address: str, field: str) -> WorkerLink:
        link = self._pool.find(address)
        if link is None:
            known = ", ".join(link.address for link in self._pool.links)
            raise NotFound(f"no worker {address!r} is known; known: {known}", field)
        return link


def _status(link: WorkerLink) -> admin_pb2.WorkerStatus:
    if link.info is None:
        # Of an unreachable worker only the configured role is known.
        unknown = worker_pb2.WorkerInfo(role=link.role)
        return admin_pb2.WorkerStatus(address=link.address, discovered=link.discovered, info=unknown)
    return admin_pb2.WorkerStatus(
        address=link.address, reachable=True, discovered=link.discovered, info=link.info, load=link.load
    )
