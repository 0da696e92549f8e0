"""Runs the sessions of a scenario against an endpoint."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from services.cli.bench.records import Began, Ended, Record, Request, request_record
from services.cli.bench.targets.target import Clock, Target
from services.cli.bench.targets.timeline import Timeline
from services.cli.bench.workload.ask import Ask, Session
from services.common.errors import Unavailable

Sleep = Callable[[float], Awaitable[None]]
_WARM_TOKENS = 32


class LoadRunner:
    """Runs loads one after another. `clock`: the one that the target's timelines are on, in seconds; `record`
    gets every record at the moment it is made.
    """

    def __init__(
        self, target: Target, record: Callable[[Record], None], clock: Clock, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._target = target
        self._record = record
        self._clock = clock
        self._sleep = sleep

    async def warm_up(self, session: Session) -> Timeline:
        """Sends the first request of a session, for a short answer. Raises Unavailable if it fails."""
        ask = next(session.turns())
        timeline = await self._target.ask(replace(ask, max_tokens=min(ask.max_tokens, _WARM_TOKENS)))
        if timeline.error:
            raise Unavailable(f"the first request failed, so none was measured: {timeline.error}")
        return timeline

    async def run(self, began: Began, sessions: Sequence[Session]) -> None:
        """Starts sessions as `began` says: at its rate, at most `concurrency` at once. Returns when all have
        ended; a session ends at its first failed request.
        """
        self._record(began)
        places = asyncio.Semaphore(began.concurrency or len(sessions) or 1)
        gaps = random.Random(f"{began.seed} gaps")
        epoch = self._clock()
        async with asyncio.TaskGroup() as tasks:
            for index, session in enumerate(sessions):
                if index and began.rate:
                    await self._sleep(gaps.expovariate(began.rate))
                tasks.create_task(self._session(began, epoch, index, session, places))
        self._record(Ended(began.run, began.scale, self._clock() - epoch))

    async def _session(
        self, began: Began, epoch: float, index: int, session: Session, places: asyncio.Semaphore
    ) -> None:
        async with places:
            turns = session.turns()
            ask: Ask | None = next(turns, None)
            turn = 0
            while ask is not None:
                timeline = await self._target.ask(ask)
                made: Request = request_record(
                    began, timeline, epoch, index, turn, (ask.input_tokens, ask.max_tokens)
                )
                self._record(made)
                if made.error:
                    return
                try:
                    ask = turns.send(timeline.answer)
                except StopIteration:
                    ask = None
                turn += 1
