"""Work that ends when its client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive

from services.common.errors import Cancelled


async def run_while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` to its end, or cancels it the moment the client disconnects and raises Cancelled.

    The body must have been read. Returns or raises only after `work` has unwound.
    """
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)
    try:
        if working.cancelled():
            raise Cancelled("the client went away")
        working.result()
    finally:
        # Its error knows this frame, and the frame would know the error: both would keep the body for long.
        del working


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
