"""Admission and logging, common to every rpc that does work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import grpc

from services.common.errors import PerigeeError
from services.common.rpc.status import code_of
from services.gateway.access.gatekeeper import Gatekeeper, key_in
from services.gateway.access.rules import RPCS
from services.gateway.access.tenant import Tenant
from services.gateway.admission import Admission, Ticket
from services.gateway.request_log import RequestLog
from services.gateway.request_record import HEADER, RequestRecord, request_name

_PACKAGE = "/perigee.v1."

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Calls:
    """Names calls in their metadata, admits them, and logs how each ended.

    The name is part of the trailing metadata, and of the initial metadata once there is an answer. A failure
    is answered by trailing metadata alone: after initial metadata no gRPC client retries a call.
    """

    def __init__(self, admission: Admission, gatekeeper: Gatekeeper, requests: RequestLog) -> None:
        """`gatekeeper`: knows whose call it is."""
        self._admission = admission
        self._requests = requests
        self._gatekeeper = gatekeeper

    @asynccontextmanager
    async def enter(self, context: Context, method: str) -> AsyncIterator[Ticket]:
        """Admits a call for the length of the block. Raises as Admission.enter, and as Gatekeeper.caller: the
        key may have been revoked while the message was read.
        """
        record = _record(context, method)
        self._requests.trace(record, context.invocation_metadata() or ())
        try:
            with self._admission.failing("grpc"), _noting(record):
                tenant = self.tenant(context, _PACKAGE + method)
                record.key = tenant.label if tenant is not None else ""
            with _noting(record), self._admission.enter("grpc", record, tenant) as ticket:
                yield ticket
        finally:
            self._requests.ended(record)

    @asynccontextmanager
    async def reading(self, context: Context, method: str) -> AsyncIterator[None]:
        """Names a call and reads its message within the block; a failure ends it before it is admitted."""
        record = _record(context, method)
        context.set_trailing_metadata(((HEADER, record.name),))
        try:
            with self._admission.failing("grpc"), _noting(record):
                yield
        except BaseException:
            self._requests.ended(record)
            raise

    def tenant(self, context: Context, method: str) -> Tenant | None:
        """Whose call it is; `method`: its full name. Raises as Gatekeeper.caller."""
        return self._gatekeeper.caller(key_in(context.invocation_metadata()), RPCS.get(method, "admin"))

    async def answering(self, context: Context) -> None:
        """Sends the name of a call whose message has been read. Call once, before the first response."""
        await context.send_initial_metadata(context.trailing_metadata())


def _record(context: Context, method: str) -> RequestRecord:
    # The name that the call got when its message was read, else the client's.
    metadata = context.trailing_metadata() or context.invocation_metadata() or ()
    given = next((value for key, value in metadata if key == HEADER and isinstance(value, str)), None)
    return RequestRecord(request_name(given), "grpc", method)


@contextmanager
def _noting(record: RequestRecord) -> Iterator[None]:
    """Notes how the block ended."""
    try:
        yield
        record.status = "OK"
    except PerigeeError as error:
        record.status, record.reason = code_of(error).name, error.reason
        raise
    except Exception:
        record.status, record.reason = "INTERNAL", "INTERNAL"
        raise
    except BaseException:
        record.status, record.reason = "CANCELLED", "CANCELLED"
        raise
