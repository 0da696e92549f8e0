"""Which calls have a key that allows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from services.common.rpc.interceptors import Interceptor
from services.common.rpc.status import code_of
from services.gateway.access.gatekeeper import Gatekeeper, LacksScope, Refused, key_in
from services.gateway.access.rules import Need
from services.gateway.admission import Admission
from services.gateway.request_record import HEADER, RequestRecord, request_name
from services.gateway.rpc.calls import Context

if TYPE_CHECKING:
    from services.common.rpc.interceptors import Handler

log = structlog.get_logger()


class KeyInterceptor(Interceptor):
    """Asks the gatekeeper before anything of a call's message is read."""

    def __init__(
        self, gatekeeper: Gatekeeper, rules: Mapping[str, Need], admission: Admission | None
    ) -> None:
        """`rules`: by the method's full name; a method without one needs `admin`. `admission`: counts what is
        refused; None: nobody does.
        """
        self._gatekeeper = gatekeeper
        self._rules = rules
        self._admission = admission

    def around(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        """See Interceptor."""
        method = details.method
        try:
            key = key_in(details.invocation_metadata)
            self._gatekeeper.caller(key, self._rules.get(method, "admin"))
        except (Refused, LacksScope) as error:
            return self._refusing(method, error)
        return handler

    def _refusing(self, method: str, error: Refused | LacksScope) -> Handler:
        """A handler that reads no message. Clients of every kind of method take its status."""

        async def refuse(_: object, context: Context) -> None:
            given = (value for key, value in context.invocation_metadata() or () if key == HEADER)
            name = request_name(next((value for value in given if isinstance(value, str)), None))
            record = RequestRecord(
                name, "grpc", method.removeprefix("/perigee.v1."), code_of(error).name, error.reason
            )
            record.key = error.label
            context.set_trailing_metadata(((HEADER, name),))
            if self._admission is not None:
                self._admission.refused("grpc", error)
            log.info("request", **record.line(), why=error.why)
            raise error.with_traceback(None)

        made: Any = grpc.stream_stream_rpc_method_handler
        refusing: Handler = made(refuse)
        return refusing
