"""Keeps one service of the suite running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.cli.load_log import LoadLog
from services.cli.run.child import Child, describe_exit
from services.cli.run.progress import Progress
from services.common.errors import Unavailable

_TICK_S = 0.5


@dataclass(frozen=True)
class RestartPolicy:
    """Seconds: first and longest pause before a restart; uptime after which past crashes no longer count."""

    first_s: float = 0.5
    longest_s: float = 30.0
    forgive_s: float = 60.0

    def count(self, crashes: int, lived_s: float) -> int:
        """Returns the crashes in a row after one more crash, which followed `lived_s` seconds of uptime."""
        return 1 if lived_s > self.forgive_s else crashes + 1

    def pause(self, crashes: int) -> float:
        """Returns the pause before a restart after `crashes` (at least 1) crashes in a row."""
        return min(self.longest_s, self.first_s * 2.0 ** (crashes - 1))


class Keeper:
    """Starts a child, waits until it is healthy, restarts it whenever it ends.

    `ready` is set when the child is healthy for the first time, and stays set.
    """

    def __init__(
        self,
        role: str,
        child: Child,
        is_healthy: Callable[[], Awaitable[None]],
        progress: Progress,
        start_timeout_s: float,
        policy: RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.role = role
        self.child = child
        self.ready = asyncio.Event()
        self._is_healthy = is_healthy
        self._progress = progress
        self._start_timeout_s = start_timeout_s
        self._policy = policy or RestartPolicy()
        self._clock = clock

    async def run(self) -> None:
        """Runs until cancelled. Raises Unavailable with the end of the log if the first start fails."""
        crashes = 0
        while True:
            began = self._clock()
            self._progress.update(self.role, "loading…")
            await self.child.start()
            failure = await self._until_ready(began)
            if failure is None:
                self._progress.update(self.role, f"ready in {self._clock() - began:.1f} s")
                self.ready.set()
                failure = describe_exit(await self.child.wait())
            elif not self.ready.is_set():
                self._progress.update(self.role, f"failed: {failure}")
                raise Unavailable(self._account(failure))
            crashes = self._policy.count(crashes, self._clock() - began)
            pause = self._policy.pause(crashes)
            self._progress.update(self.role, f"ended ({failure}); restarting in {pause:.1f} s")
            await asyncio.sleep(pause)

    async def _until_ready(self, began: float) -> str | None:
        """Waits until the child is healthy; returns None, or the failure. Kills a child that is too slow."""
        log = LoadLog(self.child.log)
        healthy = asyncio.ensure_future(self._is_healthy())
        ended = asyncio.ensure_future(self.child.wait())
        try:
            while (elapsed := self._clock() - began) < self._start_timeout_s:
                loaded = log.latest()
                text = f"loading… {elapsed:.0f} s{f', {loaded}' if loaded else ''}"
                self._progress.update_in_place(self.role, text, worth_a_line=bool(loaded))
                await asyncio.wait({healthy, ended}, timeout=_TICK_S, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    return describe_exit(ended.result())
                if healthy.done():
                    healthy.result()
                    return None
            self.child.kill()
            await ended
            return f"not healthy within {self._start_timeout_s:.0f} s"
        finally:
            healthy.cancel()
            ended.cancel()

    def _account(self, failure: str) -> str:
        lines = "\n".join(f"    {line}" for line in self.child.tail())
        return f"{self.role} did not start ({failure}). The end of {self.child.log}:\n{lines}"
