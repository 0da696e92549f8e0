"""Work that ends when its client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import Receive

from services.common.errors import Cancelled


async def run_while_connected(
    receive: Receive, work: Coroutine[Any, Any, None], answered: Callable[[], bool] = lambda: False
) -> None:
    """Runs `work` to its end, or cancels it the moment the client disconnects and raises Cancelled.

    The body must have been read. Returns or raises only after `work` has unwound. `answered`: whether the
    whole answer is sent; servers report a disconnect after that, too, which ends nothing.
    """
    # The work runs in the caller's task: one of its own costs a token's time per request.
    task = asyncio.current_task()
    assert task is not None
    is_gone = over = False

    def leave(watch: asyncio.Task[None]) -> None:
        nonlocal is_gone
        if over or watch.cancelled():
            return
        watch.exception()  # a connection that cannot be read is gone, too
        if answered():
            return
        is_gone = True
        task.cancel()

    watch = asyncio.create_task(_disconnected(receive))
    watch.add_done_callback(leave)
    try:
        await work
    except asyncio.CancelledError:
        if not is_gone or task.cancelling() > 1:
            raise
        raise Cancelled("the client went away") from None
    finally:
        over = True
        watch.cancel()
        if is_gone:
            task.uncancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
