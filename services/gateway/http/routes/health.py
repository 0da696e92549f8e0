"""GET /health and /ready: whether this gateway works, and what can be served now."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.answers.page import json_page
from services.gateway.http.shapes.server import HealthAnswer
from services.gateway.readiness import Readiness
from services.gateway.workers.pool import WorkerPool


class HealthPage:
    """Both say what can be served, and which configured roles have no worker that serves.

    A gateway of a tokenizer alone has no roles: `tokenizer_only` says that chats will be refused. While
    shutting down both are 503, so that balancers look elsewhere before the door closes.
    """

    def __init__(self, pool: WorkerPool, readiness: Readiness, *, shows_workers: bool) -> None:
        """`shows_workers`: whether everybody who asks may know the workers' addresses."""
        self._pool = pool
        self._shows_workers = shows_workers
        self._readiness = readiness

    async def live(self, request: Request) -> Response:
        """503 until the gateway is ready for the first time, for those who wait for a start. Then 200
        whatever the workers do: a restart of the gateway would bring none back.
        """
        good = self._readiness.begun and not self._readiness.stopping
        return json_page(self._answer(), 200 if good else 503)

    async def ready(self, request: Request) -> Response:
        """200 while text can be served (of a tokenizer alone: while it works), else 503."""
        return json_page(self._answer(), 200 if self._readiness.ready else 503)

    def _answer(self) -> HealthAnswer:
        pool, readiness = self._pool, self._readiness
        return HealthAnswer(
            status="stopping" if readiness.stopping else "ok" if readiness.ready else "unavailable",
            text=readiness.text,
            images=readiness.images,
            missing=list(pool.missing_roles()),
            tokenizer_only=not pool.configured,
            workers={link.address: link.state for link in pool.links if self._shows_workers},
        )
