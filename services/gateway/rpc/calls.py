"""What every rpc that does work does around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from services.common.errors import PerigeeError
from services.common.rpc.status import code_of
from services.gateway.admission import Admission, Ticket
from services.gateway.request_record import HEADER, RequestRecord, request_name
from services.gateway.rpc.context import Context

log = structlog.get_logger()


class Calls:
    """Names calls and says so in their initial metadata, admits them, and logs how each ended."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    @asynccontextmanager
    async def enter(self, context: Context, method: str) -> AsyncIterator[Ticket]:
        """Admits a call for the length of the block. Raises as Admission.enter."""
        metadata = context.invocation_metadata() or ()
        given = next((value for key, value in metadata if key == HEADER and isinstance(value, str)), None)
        record = RequestRecord(request_name(given), "grpc", method)
        try:
            await context.send_initial_metadata(((HEADER, record.name),))
            with self._admission.enter("grpc", record) as ticket:
                yield ticket
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
        finally:
            log.info("request", **record.line())
