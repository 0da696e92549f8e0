"""A small synchronous client of AdminService, which finds workers by what an operator calls them."""

from __future__ import annotations

import grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, worker_pb2
from services.common.errors import NotFound
from services.common.rpc.status import from_rpc_error

_CALL_TIMEOUT_S = 15.0
# The gateway gives up sooner.
_CHECK_TIMEOUT_S = 100.0


class AdminClient:
    """Talks to a gateway over a channel that stays the caller's. Failures are PerigeeErrors."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = admin_pb2_grpc.AdminServiceStub(channel)

    def list_workers(self) -> admin_pb2.ListWorkersResponse:
        """Every worker the gateway knows."""
        try:
            answer: admin_pb2.ListWorkersResponse = self._stub.ListWorkers(
                admin_pb2.ListWorkersRequest(), timeout=_CALL_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return answer

    def find(self, name: str) -> admin_pb2.WorkerStatus:
        """The worker at the address `name`, or the only one whose incarnation begins with it.

        Raises NotFound, listing the workers there are.
        """
        workers = self.list_workers().workers
        at_address = [worker for worker in workers if worker.address == name]
        by_prefix = [worker for worker in workers if name and worker.info.incarnation.startswith(name)]
        found = at_address or by_prefix
        if len(found) != 1:
            known = ", ".join(describe(worker) for worker in found or workers) or "none"
            what = f"{name!r} is the beginning of several" if found else f"no worker is {name!r}"
            raise NotFound(f"{what}; give an address or the beginning of an incarnation: {known}")
        return found[0]

    def check_transfer(self, reader: str, owner: str, rounds: int) -> worker_pb2.CheckTransferResponse:
        """Has the worker at `reader` read the probe of the one at `owner`."""
        request = admin_pb2.CheckWorkersRequest(reader=reader, owner=owner, rounds=rounds)
        try:
            answer: worker_pb2.CheckTransferResponse = self._stub.CheckTransfer(
                request, timeout=_CHECK_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return answer

    def drain(self, address: str) -> int:
        """Takes the worker out of rotation; how many requests it still has."""
        try:
            answer: admin_pb2.DrainWorkerResponse = self._stub.DrainWorker(
                admin_pb2.DrainWorkerRequest(address=address), timeout=_CALL_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return answer.outstanding


def role_name(worker: admin_pb2.WorkerStatus) -> str:
    """ "vision", "prefill" or "decode"."""
    return worker_pb2.WorkerRole.Name(worker.info.role).removeprefix("WORKER_ROLE_").lower()


def describe(worker: admin_pb2.WorkerStatus) -> str:
    """Role and address, e.g. "prefill 127.0.0.1:50052"."""
    return f"{role_name(worker)} {worker.address}"
