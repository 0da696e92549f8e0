"""Clients that keep a number of requests in flight and note how each one ends."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.deaths.attempt import Attempt, attempt
from benchmarks.deaths.bodies import COUNT, request

RETRIES = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0


@dataclass
class Asked:
    """A request that was sent; times are of the monotonic clock. `first` is what a client without retries
    gets, and `tried` is set then. `retries`: how it went on, each after a pause, until one was answered.
    """

    number: int
    sent: float
    first: Attempt | None = None
    ended: float = float("inf")
    retries: list[Attempt] = field(default_factory=list)
    tried: asyncio.Event = field(default_factory=asyncio.Event)


class Clients:
    """A context manager. All that was asked is in `asked`, and the times of bytes of answers in `heard`."""

    def __init__(self, url: str, first_use: int, patience_s: float) -> None:
        """`first_use`: see `request`; each one gets a use of its own from there on."""
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(base_url=url, timeout=patience_s, trust_env=False, limits=limits)
        self._uses = itertools.count(first_use)
        self._numbers = itertools.cycle(range(COUNT))
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self.asked: list[Asked] = []
        self.heard: list[float] = []
        self._streaming: set[int] = set()
        self._awaited, self._enough = COUNT, asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    def begin(self, count: int) -> None:
        """Adds so many clients, each of which sends the next request when one has ended."""
        self._tasks += [asyncio.create_task(self._repeat(self._numbers)) for _ in range(count)]

    def begin_once_each(self, count: int) -> None:
        """Adds so many clients, which send each request once between them."""
        numbers = iter(range(COUNT))
        self._tasks += [asyncio.create_task(self._repeat(numbers)) for _ in range(count)]

    async def streaming(self, count: int, within_s: float) -> None:
        """Returns when so many answers come in pieces, or have come, at the latest after `within_s`."""
        self._awaited = count
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._enough.wait()

    async def finish_all_sent_before(self, at: float) -> None:
        """Goes on until those requests have ended; then no other one begins, and those in flight end."""
        for each in [each for each in self.asked if each.sent <= at]:
            await each.tried.wait()
        self._stopped = True
        await self.all_done()

    async def all_done(self) -> None:
        """Waits for all clients. Raises what broke one of them."""
        await asyncio.gather(*self._tasks)

    async def _repeat(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            if self._stopped:
                return
            await self._ask(number)

    async def _ask(self, number: int) -> None:
        asked = Asked(number, time.monotonic())
        self.asked.append(asked)

        def hear(at: float) -> None:
            self.heard.append(at)
            self._streaming.add(id(asked))
            if len(self._streaming) >= self._awaited:
                self._enough.set()

        asked.first = latest = await attempt(self._http, *self._request(number), hear)
        asked.ended = time.monotonic()
        asked.tried.set()
        while latest.reason and latest.retryable and len(asked.retries) < RETRIES:
            await asyncio.sleep(pause_s(latest, len(asked.retries)))
            latest = await attempt(self._http, *self._request(number), hear)
            asked.retries.append(latest)

    def _request(self, number: int) -> tuple[str, dict[str, Any]]:
        return request(number, next(self._uses))


def pause_s(failed: Attempt, retries: int) -> float:
    """How long clients commonly wait before a retry: as the server says, else twice as long each time."""
    return min(_LONGEST_PAUSE_S, failed.retry_after_s or _FIRST_PAUSE_S * 2.0**retries)
