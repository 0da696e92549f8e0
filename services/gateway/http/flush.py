"""GET or POST /flush_cache: the workers forget what they have cached."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.errors import InvalidRequest
from services.gateway.admission import Admission
from services.gateway.workers.flush import flush_workers
from services.gateway.workers.pool import WorkerPool

MAX_WAIT_S = 600.0


class FlushPage:
    """What running requests hold stays; `timeout` is how long to wait for them to end first, seconds."""

    def __init__(self, pool: WorkerPool, admission: Admission) -> None:
        self._pool = pool
        self._admission = admission

    async def flush(self, request: Request) -> Response:
        """Answers what was dropped, and whether no request ran meanwhile. Raises as flush_workers, and
        InvalidRequest.
        """
        wait_s = _seconds(request.query_params.get("timeout", "0"))
        try:
            async with asyncio.timeout(wait_s):
                await self._admission.idle()
            idle = True
        except TimeoutError:
            idle = False
        dropped = await flush_workers(self._pool)
        return JSONResponse({"pages": dropped.pages, "embeddings": dropped.embeddings, "idle": idle})


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_S:
        raise InvalidRequest(
            f"timeout is {text!r}; it is a number of seconds, 0 to {MAX_WAIT_S:g}", "timeout"
        )
    return seconds
