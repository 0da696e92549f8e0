"""A small synchronous client of AdminService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, worker_pb2
from services.common.errors import NotFound, Unavailable
from services.common.rpc.status import from_rpc_error

_CALL_TIMEOUT_S = 15.0
# Longer than the gateway's own timeout.
_CHECK_TIMEOUT_S = 100.0
# gRPC's message for an unknown service; Perigee's own UNIMPLEMENTED errors have other messages.
_NO_SUCH_SERVICE = "Method not found!"


class AdminClient:
    """Calls a gateway over the caller's channel, which it does not close. Failures raise PerigeeError."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = admin_pb2_grpc.AdminServiceStub(channel)

    def list_workers(self) -> admin_pb2.ListWorkersResponse:
        """Lists every worker the gateway knows."""
        answer: admin_pb2.ListWorkersResponse = _call(self._stub.ListWorkers, admin_pb2.ListWorkersRequest())
        return answer

    def find(self, name: str) -> admin_pb2.WorkerStatus:
        """Returns the worker at address `name`, or the only one whose incarnation starts with it.

        Raises NotFound listing the known workers.
        """
        found = self.find_all(name)
        if len(found) != 1:
            raise _not_found(f"{name!r} matches several workers", found)
        return found[0]

    def find_all(self, name: str) -> Sequence[admin_pb2.WorkerStatus]:
        """Returns the worker at address `name`, or all whose incarnations start with it, at least one.

        Raises NotFound listing the known workers.
        """
        workers = self.list_workers().workers
        at_address = [worker for worker in workers if worker.address == name]
        found = at_address or [each for each in workers if name and each.info.incarnation.startswith(name)]
        if not found:
            raise _not_found(f"{name!r} matches no worker", workers)
        return found

    def check_transfer(self, reader: str, owner: str, rounds: int) -> worker_pb2.CheckTransferResponse:
        """Makes the worker at `reader` read the probe buffer of the one at `owner`."""
        request = admin_pb2.CheckWorkersRequest(reader=reader, owner=owner, rounds=rounds)
        answer: worker_pb2.CheckTransferResponse = _call(self._stub.CheckTransfer, request, _CHECK_TIMEOUT_S)
        return answer

    def flush(self) -> Sequence[admin_pb2.FlushedWorker]:
        """Makes every worker drop cached pages and embeddings that nothing holds."""
        answer: admin_pb2.FlushWorkersResponse = _call(self._stub.Flush, admin_pb2.FlushWorkersRequest())
        return answer.workers

    def set_log_level(self, level: str, address: str) -> Sequence[admin_pb2.ChangedLogLevel]:
        """Changes what the service at `address` logs (or `gateway`; empty: all); returns what each says."""
        request = admin_pb2.SetLogLevelsRequest(level=level, address=address)
        answer: admin_pb2.SetLogLevelsResponse = _call(self._stub.SetLogLevel, request)
        return answer.services

    def drain(self, address: str, *, force: bool = False) -> int:
        """Takes the worker out of rotation; returns the number of requests it still has.

        The last serving worker of a role needs `force`.
        """
        request = admin_pb2.DrainWorkerRequest(address=address, force=force)
        answer: admin_pb2.DrainWorkerResponse = _call(self._stub.DrainWorker, request)
        return answer.outstanding

    def undrain(self, address: str) -> None:
        """Puts a drained worker back into rotation."""
        _call(self._stub.UndrainWorker, admin_pb2.UndrainWorkerRequest(address=address))


def role_name(role: worker_pb2.WorkerRole.ValueType) -> str:
    """Returns "vision", "prefill" or "decode"."""
    return worker_pb2.WorkerRole.Name(role).removeprefix("WORKER_ROLE_").lower()


def describe(worker: admin_pb2.WorkerStatus) -> str:
    """Returns role and address, e.g. "prefill 127.0.0.1:50052"."""
    return f"{role_name(worker.info.role)} {worker.address}"


def _not_found(what: str, workers: Sequence[admin_pb2.WorkerStatus]) -> NotFound:
    known = ", ".join(describe(worker) for worker in workers) or "none"
    return NotFound(f"{what}; give an address or the start of an incarnation: {known}")


def _call(method: Any, request: Any, timeout_s: float = _CALL_TIMEOUT_S) -> Any:
    try:
        return method(request, timeout=timeout_s)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED and error.details() == _NO_SUCH_SERVICE:
            raise Unavailable(
                "the server at this address has no AdminService: give a gateway's operator port by --address"
            ) from error
        raise from_rpc_error(error) from error
