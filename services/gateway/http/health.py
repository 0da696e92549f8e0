"""GET /health: whether a request could be served now."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway.admission import Admission
from services.gateway.workers.pool import WorkerPool


class HealthPage:
    """200 when every configured role has a worker that serves, else 503 naming the roles that lack one.

    A gateway of a tokenizer alone has no roles: 200, and `tokenizer_only` says that chats will be refused.
    Also 503 while shutting down, so that balancers look elsewhere before the door closes.
    """

    def __init__(self, pool: WorkerPool, admission: Admission) -> None:
        self._pool = pool
        self._admission = admission

    async def show(self, request: Request) -> Response:
        missing = self._pool.missing_roles()
        status = "stopping" if self._admission.closed else "unavailable" if missing else "ok"
        body = {
            "status": status,
            "missing": list(missing),
            "tokenizer_only": not self._pool.configured,
            "workers": {link.address: link.state for link in self._pool.links},
        }
        return JSONResponse(body, status_code=200 if status == "ok" else 503)
