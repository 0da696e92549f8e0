"""Keeps one service of the suite running, and replaces its process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from services.cli.run.child import Child, describe_exit
from services.cli.run.progress import Progress
from services.cli.run.successors import Instance, Successors
from services.cli.run_directory.load_log import LoadLog
from services.cli.run_directory.states import State
from services.common.errors import ConfigError, Unavailable
from services.common.graces import SUITE_S

_TICK_S = 0.5

Record: TypeAlias = Callable[..., None]
"""StateFile.record: takes a role and changes of its ServiceState."""


def _nowhere(role: str, **changes: Any) -> None:
    pass


# How often a successor is started before its predecessor drains without one.
_ATTEMPTS = 3


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
    """Starts a service, waits until it is healthy, restarts it whenever it ends.

    `ready` is set when it is healthy for the first time, and stays set. A worker that got SIGTERM has a
    successor started first, if `successors` has room for one, and ends when that serves.
    """

    def __init__(
        self,
        role: str,
        first: Instance,
        progress: Progress,
        start_timeout_s: float,
        stop_timeout_s: float = SUITE_S,
        successors: Successors | None = None,
        policy: RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        record: Record = _nowhere,
    ) -> None:
        """`start_timeout_s`: healthy so long after a start, or killed; `stop_timeout_s`: gone so long after
        a predecessor was told to end, or killed. Without `successors` the service never asks for one.
        `record`: told of every change.
        """
        self.role = role
        self.ready = asyncio.Event()
        self._present = first
        # One that starts, and those that have a successor and finish what they have.
        self._others: list[Instance] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._progress = progress
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._successors = successors
        self._policy = policy or RestartPolicy()
        self._clock = clock
        self._record = record
        self._starts = 0
        self._began = 0.0

    @property
    def child(self) -> Child:
        """The process that serves, or is to serve again."""
        return self._present.child

    async def run(self) -> None:
        """Runs until cancelled. Raises Unavailable with the end of the log if the first start fails."""
        crashes = 0
        while True:
            failure = await self._start(self._present, "loading…")
            if failure is None:
                self._say(
                    "serving", f"ready in {self._clock() - self._began:.1f} s, process {self.child.pid}"
                )
                self.ready.set()
                failure = await self._until_ended()
                if failure is None:
                    crashes = 0
                    continue
            elif not self.ready.is_set():
                self._say("failed", f"failed: {failure}")
                raise Unavailable(self._account(failure))
            crashes = self._policy.count(crashes, self._clock() - self._began)
            pause = self._policy.pause(crashes)
            self._say("restarting", f"ended ({failure}); restarting in {pause:.1f} s")
            await asyncio.sleep(pause)

    async def stop(self, timeout_s: float) -> bool:
        """Stops all processes of the service, after `run`. Returns False if one had to be killed."""
        self._record(self.role, state="stopping")
        for task in self._ending:
            task.cancel()
        instances = (self._present, *self._others)
        return all(await asyncio.gather(*(each.child.stop(timeout_s) for each in instances)))

    def kill(self) -> None:
        """Kills all processes of the service."""
        for instance in (self._present, *self._others):
            instance.child.kill()

    async def _until_ended(self) -> str | None:
        """Waits for the end, and replaces a process that asks for it. Returns how the last one ended; None if
        it was asked to, so that nothing is wrong.
        """
        while (status := await self.child.wait_or_asked()) is None:
            failure = await self._replace()
            if failure is not None:
                self._say("replacing", f"ends before its successor starts ({failure})")
                await self.child.stop(self._stop_timeout_s)
                return None
        return describe_exit(status)

    async def _replace(self) -> str | None:
        """Has a successor serve in place of the present process; returns why that is not possible."""
        assert self._successors is not None
        self._say("replacing", "asked to end")
        # One role after the other: two that look for room at once would take the same.
        async with self._successors.turn:
            if (reason := await self._successors.why_not(self._present)) is not None:
                return reason
            for _ in range(_ATTEMPTS):
                failure = await self._try_successor(self._successors)
                if failure is None:
                    return None
                self._say("replacing", f"the successor did not start ({failure})")
        return "no successor started"

    async def _try_successor(self, successors: Successors) -> str | None:
        """Starts a successor and hands over to it; returns None, or the failure."""
        try:
            successor = successors.make()
        except ConfigError as error:
            return error.message
        self._others.append(successor)
        failure = await self._start(successor, "its successor is loading…")
        if failure is None:
            try:
                # Both are found until the new one is used: no request meets an empty pool.
                successors.publish(self._present, successor)
                await successors.until_used(successor)
                successors.publish(successor if successor.child.running else self._present)
            except OSError as error:
                failure = str(error)
        if failure is None and successor.child.running:
            self._take_over(successor)
            return None
        successor.child.kill()
        status = await successor.child.wait()
        self._others.remove(successor)
        return failure or describe_exit(status)

    def _take_over(self, successor: Instance) -> None:
        former, self._present = self._present, successor
        self._others[self._others.index(successor)] = former
        self._say(
            "serving",
            f"successor ready in {self._clock() - self._began:.1f} s, process {self.child.pid};"
            " the former one finishes",
        )
        task = asyncio.create_task(self._end(former))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, former: Instance) -> None:
        await former.child.stop(self._stop_timeout_s)
        status = await former.child.wait()
        self._others.remove(former)
        self._say(None, f"the former one has ended ({describe_exit(status)})")

    async def _start(self, instance: Instance, state: str) -> str | None:
        """Starts a process and waits until it is healthy; returns None, or the failure. Kills a slow one."""
        self._began = began = self._clock()
        self._starts += 1
        self._say("starting" if instance is self._present else "replacing", state)
        log = LoadLog(instance.child.log)
        await instance.child.start()
        self._record(self.role, pid=self.child.pid)
        healthy = asyncio.ensure_future(instance.is_healthy())
        ended = asyncio.ensure_future(instance.child.wait())
        try:
            while (elapsed := self._clock() - began) < self._start_timeout_s:
                loaded = log.latest()
                text = f"{state} {elapsed:.0f} s{f', {loaded}' if loaded else ''}"
                self._progress.update_in_place(self.role, text, worth_a_line=bool(loaded))
                self._record(self.role, detail=text)
                await asyncio.wait({healthy, ended}, timeout=_TICK_S, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    return describe_exit(ended.result())
                if healthy.done():
                    healthy.result()
                    return None
            instance.child.kill()
            await ended
            return f"not healthy within {self._start_timeout_s:.0f} s"
        finally:
            healthy.cancel()
            ended.cancel()

    def _say(self, state: State | None, detail: str) -> None:
        """Shows the news, and records them; None: the state is the same."""
        self._progress.update(self.role, detail)
        changes = {} if state is None else {"state": state}
        present = {"pid": self.child.pid, "address": self._present.address, "starts": self._starts}
        self._record(self.role, detail=detail, **present, **changes)

    def _account(self, failure: str) -> str:
        lines = "\n".join(f"    {line}" for line in self.child.tail())
        return f"{self.role} did not start ({failure}). The end of {self.child.log}:\n{lines}"
