"""Stops the suite in order, and says what it waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, worker_pb2
from services.cli.run.keeper import Keeper
from services.cli.run.progress import Progress
from services.common.graces import WORKER_CLOSE_S
from services.common.rpc.endpoints import Endpoints

_REPEAT_S = 5.0
_COUNT_TIMEOUT_S = 1.0

Requests = Callable[[], Awaitable["int | None"]]
"""Returns how many requests the suite still has; None if nobody knows."""


async def unknown() -> int | None:
    """Returns None, as Requests does where nobody knows."""
    return None


class Stopping:
    """Ends the services of a suite: the gateway first, since its last requests may need every worker."""

    def __init__(
        self,
        keepers: Sequence[Keeper],
        progress: Progress,
        timeout_s: float,
        requests: Requests = unknown,
        record: Callable[[str], None] = lambda detail: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout_s`: all are gone so long after the call of `run`, or killed. `record`: told what `run`
        waits for.
        """
        self._keepers = list(keepers)
        self._progress = progress
        self._timeout_s = timeout_s
        self._requests = requests
        self._record = record
        self._clock = clock

    async def run(self, hurry: asyncio.Event) -> None:
        """Returns when all have ended. Setting `hurry` kills those that are left."""
        self._progress.print("stopping… (Ctrl-C again does not wait)")
        stopping = asyncio.ensure_future(self._in_order())
        hurried = asyncio.create_task(hurry.wait())
        waiting: set[asyncio.Future[Any]] = {stopping, hurried}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            for keeper in self._keepers:
                keeper.kill()
        hurried.cancel()
        await stopping

    async def _in_order(self) -> None:
        give_up = self._clock() + self._timeout_s
        doors = [keeper for keeper in self._keepers if keeper.role == "gateway"]
        workers = [keeper for keeper in self._keepers if keeper.role != "gateway"]
        await self._stop(doors, give_up - min(WORKER_CLOSE_S, self._timeout_s / 2))
        await self._stop(workers, give_up)

    async def _stop(self, keepers: Sequence[Keeper], give_up: float) -> None:
        """Stops these at once; until the last has ended, says every 5 s which are left."""
        # Counted first: a gateway without requests ends at once, and answers nobody any more.
        requests = await self._count(keepers)
        left = {asyncio.ensure_future(self._stop_one(keeper, give_up)): keeper.role for keeper in keepers}
        while left:
            self._say(list(left.values()), requests, give_up)
            done, _ = await asyncio.wait(left, timeout=_REPEAT_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
                del left[task]
            if left:
                requests = await self._count(keepers)

    async def _count(self, keepers: Sequence[Keeper]) -> int | None:
        """Returns how many requests these services still have; None if nobody knows. Only the gateway is
        asked: workers end after it.
        """
        serve = any(keeper.role == "gateway" and keeper.ready.is_set() for keeper in keepers)
        return await self._requests() if serve else 0

    def _say(self, roles: Sequence[str], requests: int | None, give_up: float) -> None:
        counted = "requests" if requests is None else f"{requests} request{'' if requests == 1 else 's'}"
        what = "" if requests == 0 else f" ({counted} may finish)"
        at_most = max(0.0, give_up - self._clock())
        detail = f"waiting for {', '.join(roles)}{what}, {at_most:.0f} s at most"
        self._progress.print(detail)
        self._record(detail)

    async def _stop_one(self, keeper: Keeper, give_up: float) -> None:
        if not await keeper.stop(max(0.0, give_up - self._clock())):
            detail = f"{keeper.role} did not stop within the suite's {self._timeout_s:.0f} s and was killed"
            self._progress.print(detail)
            self._record(detail)


async def running_requests(endpoints: Endpoints, operators: str) -> int | None:
    """Returns how many sequences the decode workers have, as the gateway's operator port says; None if it
    does not answer within a second, or wants an API key.
    """
    async with endpoints.channel(operators, "gateway") as channel:
        try:
            listing = admin_pb2_grpc.AdminServiceStub(channel).ListWorkers
            answer = await listing(admin_pb2.ListWorkersRequest(), timeout=_COUNT_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
    loads = [each.load for each in answer.workers if each.info.role == worker_pb2.WORKER_ROLE_DECODE]
    count: int = sum(load.running + load.waiting for load in loads)
    return count
