"""Restores cancellations that a failing gRPC call has swallowed."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raises CancelledError if the current task was cancelled.

    If a grpc.aio call fails at the moment its awaiting task is cancelled, only the failure is raised and the
    cancellation is lost: a loop that retries after failures would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
