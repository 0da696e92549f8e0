"""Which requests have a key that allows them, and whose it is."""

from __future__ import annotations

import structlog
from starlette.routing import Match
from starlette.types import ASGIApp, Scope

from services.gateway.access.gatekeeper import Gatekeeper, LacksScope, Refused, presented_key
from services.gateway.access.rules import ROUTES
from services.gateway.access.tenant import Tenant
from services.gateway.admission import Admission
from services.gateway.http.error_page import error_page
from services.gateway.http.operations import Operation
from services.gateway.http.request_names import name_of
from services.gateway.request_record import RequestRecord

log = structlog.get_logger()

_SCOPE = "perigee.tenant"


class KeyCheck:
    """Looks up what each operation needs, in `rules.ROUTES`, and asks the gatekeeper."""

    def __init__(
        self, gatekeeper: Gatekeeper, admission: Admission, operations: tuple[Operation, ...]
    ) -> None:
        """Raises KeyError for an operation that has no rule."""
        self._gatekeeper = gatekeeper
        self._admission = admission
        self._needs = {operation.path: ROUTES[operation.path] for operation in operations}
        self._patterns = [(operation.as_route(), operation.path) for operation in operations]

    def refusal(self, scope: Scope) -> ASGIApp | None:
        """The answer to a request that may not be carried out; None: it may be, and `tenant_of` knows whose
        it is.

        A path without a route needs a key with any scope.
        """
        scope[_SCOPE] = None
        if not self._gatekeeper.asks:
            return None
        headers = dict(scope["headers"])
        key = presented_key(_text(headers.get(b"authorization")), _text(headers.get(b"x-api-key")))
        path = scope["path"] if scope["path"] in self._needs else self._found(scope)
        try:
            scope[_SCOPE] = self._gatekeeper.caller(key, self._needs[path] if path else "any")
        except (Refused, LacksScope) as error:
            return self._answer(scope, path, error)
        return None

    def _found(self, scope: Scope) -> str:
        """The operation that Starlette finds for a path that is spelt in another way; empty: none."""
        return next((path for route, path in self._patterns if route.matches(scope)[0] is not Match.NONE), "")

    def _answer(self, scope: Scope, path: str, error: Refused | LacksScope) -> ASGIApp:
        self._admission.refused("rest", error)
        answer = error_page(scope, error)
        record = RequestRecord(
            name_of(scope), "rest", path, answer.status_code, error.reason, key=error.label
        )
        log.info("request", **record.line(), why=error.why)
        return answer


def tenant_of(scope: Scope) -> Tenant | None:
    """Whose request it is; None: no keys are asked for, or the route needs none."""
    tenant: Tenant | None = scope[_SCOPE]
    return tenant


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
