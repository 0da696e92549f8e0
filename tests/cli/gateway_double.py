"""A gateway's AdminService that answers from a script, on a port of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, worker_pb2
from services.common.errors import NotFound, PerigeeError
from services.common.rpc.status import to_status

VISION, PREFILL, DECODE = (
    worker_pb2.WORKER_ROLE_VISION,
    worker_pb2.WORKER_ROLE_PREFILL,
    worker_pb2.WORKER_ROLE_DECODE,
)


def worker(role: int, address: str, digits: str, **load) -> admin_pb2.WorkerStatus:
    """A reachable worker with 512 pages, unless `load` says otherwise."""
    name = worker_pb2.WorkerRole.Name(role).removeprefix("WORKER_ROLE_").lower()
    path = worker_pb2.TransportReport(transport="cma", gigabytes_per_second=9.54)
    info = worker_pb2.WorkerInfo(
        role=role, incarnation=f"{name}-{digits * 4}", version="0.1.0", transport=path, pid=1234
    )
    pages = worker_pb2.PageCounts(free=500, cached=10, used=1, leased=1)
    report = worker_pb2.LoadReport(**{"pages": pages, **load})
    return admin_pb2.WorkerStatus(address=address, reachable=True, info=info, load=report, discovered=True)


class GatewayDouble(admin_pb2_grpc.AdminServiceServicer):
    """`workers` are listed; `fails` by (reader, owner) refuse checks; `on_list` runs before each list.

    `keys`: the authorization that each list came with; `refuses`: the status that lists get, if any.
    """

    def __init__(self) -> None:
        self.workers = [
            worker(VISION, "10.0.0.1:50051", "a1a1a1a1"),
            worker(PREFILL, "10.0.0.2:50052", "b2b2b2b2"),
            worker(DECODE, "10.0.0.3:50053", "c3c3c3c3"),
        ]
        self.fails: dict[tuple[str, str], PerigeeError] = {}
        self.checks: list[admin_pb2.CheckWorkersRequest] = []
        self.drained: list[str] = []
        self.forced: list[str] = []
        self.undrained: list[str] = []
        self.levels: list[tuple[str, str]] = []
        self.level_errors: dict[str, str] = {}
        self.flush_errors: dict[str, str] = {}
        self.outstanding = 2
        self.rdma = False
        self.on_list: Callable[[int], None] = lambda count: None
        self.lists = 0
        self.keys: list[str | None] = []
        self.refuses: grpc.StatusCode | None = None
        self._server = grpc.server(ThreadPoolExecutor(2))
        admin_pb2_grpc.add_AdminServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None)

    def ListWorkers(self, request, context):
        self.lists += 1
        self.keys.append(dict(context.invocation_metadata()).get("authorization"))
        if self.refuses is not None:
            context.abort(self.refuses, "no key")
        self.on_list(self.lists)
        return admin_pb2.ListWorkersResponse(workers=self.workers)

    def CheckTransfer(self, request, context):
        self.checks.append(request)
        if (request.reader, request.owner) in self.fails:
            context.abort_with_status(to_status(self.fails[request.reader, request.owner]))
        path = worker_pb2.TransportReport(
            transport="rc_mlx5" if self.rdma else "cma", gigabytes_per_second=9.537, rdma=self.rdma
        )
        return worker_pb2.CheckTransferResponse(
            incarnation="other", transport=path, bytes=request.rounds << 20, crc32=0xABCD, seconds=0.25
        )

    def DrainWorker(self, request, context):
        found = [each for each in self.workers if each.address == request.address]
        if not found:
            context.abort_with_status(to_status(NotFound("no such worker", "address")))
        (self.forced if request.force else self.drained).append(request.address)
        return admin_pb2.DrainWorkerResponse(outstanding=self.outstanding)

    def SetLogLevel(self, request, context):
        self.levels.append((request.level, request.address))
        addresses = [request.address] if request.address else ["gateway", *(w.address for w in self.workers)]
        return admin_pb2.SetLogLevelsResponse(
            services=[
                admin_pb2.ChangedLogLevel(address=address, error=self.level_errors.get(address, ""))
                for address in addresses
            ]
        )

    def UndrainWorker(self, request, context):
        self.undrained.append(request.address)
        return admin_pb2.UndrainWorkerResponse()

    def Flush(self, request, context):
        entries = []
        for number, each in enumerate(self.workers):
            entry = admin_pb2.FlushedWorker(address=each.address, role=each.info.role)
            if error := self.flush_errors.get(each.address):
                entry.error = error
            else:
                entry.pages, entry.embeddings = 10 + number, int(each.info.role == VISION)
            entries.append(entry)
        return admin_pb2.FlushWorkersResponse(workers=entries)
