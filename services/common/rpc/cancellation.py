"""Cancellation that a failing call has taken for itself."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """CancelledError, if the current task was cancelled.

    Where a call of grpc.aio fails in the moment in which the task that awaits it is cancelled, its failure
    is raised and the cancellation forgotten: a loop that goes on after failures would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
