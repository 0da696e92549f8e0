"""Admission and logging, common to every rpc that does work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import grpc
import structlog

from services.common.errors import PerigeeError
from services.common.rpc.status import code_of
from services.gateway.admission import Admission, Ticket
from services.gateway.request_record import HEADER, RequestRecord, request_name

log = structlog.get_logger()

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Calls:
    """Names calls (in their initial metadata), admits them, and logs how each ended."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    @asynccontextmanager
    async def enter(self, context: Context, method: str) -> AsyncIterator[Ticket]:
        """Admits a call for the length of the block. Raises as Admission.enter."""
        record = _record(context, method)
        try:
            with _noting(record):
                await context.send_initial_metadata(((HEADER, record.name),))
                with self._admission.enter("grpc", record) as ticket:
                    yield ticket
        finally:
            log.info("request", **record.line())

    @asynccontextmanager
    async def reading(self, context: Context, method: str) -> AsyncIterator[None]:
        """Reads a call's message within the block; a failure ends the call before it is admitted."""
        record = _record(context, method)
        try:
            with self._admission.failing("grpc"), _noting(record):
                yield
        except BaseException as error:
            log.info("request", **record.line())
            if isinstance(error, PerigeeError):
                await context.send_initial_metadata(((HEADER, record.name),))
            raise


def _record(context: Context, method: str) -> RequestRecord:
    metadata = context.invocation_metadata() or ()
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
