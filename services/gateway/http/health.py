"""GET /health: whether a request could be served now."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway.workers.pool import WorkerPool


class HealthPage:
    """200 when every configured role has a worker that serves, else 503 naming the roles that lack one."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    async def show(self, request: Request) -> Response:
        missing = self._pool.missing_roles()
        body = {
            "status": "unavailable" if missing else "ok",
            "missing": list(missing),
            "workers": {link.address: _state(link.reachable, link.serving) for link in self._pool.links},
        }
        return JSONResponse(body, status_code=503 if missing else 200)


def _state(reachable: bool, serving: bool) -> str:
    if serving:
        return "serving"
    return "draining" if reachable else "unreachable"
