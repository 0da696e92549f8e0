"""The tokens of one request, from whichever decode worker has it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from services.common.errors import Overloaded, PerigeeError, Unavailable, WorkerLost
from services.gateway.pipeline.failover_policy import FailoverPolicy
from services.gateway.pipeline.prompt.encoding import VisionStage
from services.gateway.pipeline.submission import Part, Submission
from services.gateway.workers.backoff import Backoff
from services.gateway.workers.router import Router
from services.gateway.workers.stream.inbox import Inbox
from services.gateway.workers.stream.token_delta import TokenDelta
from services.gateway.workers.stream.token_stream import (
    ACCEPTED,
    NO_SHORTCUTS,
    Shortcut,
    StreamInbox,
    TokenStream,
)

log = structlog.get_logger()

_DELIVERY_S = 1.0


@dataclass
class _Leg:
    """A part that is with a worker. `begun`: a token has come."""

    part: Part
    begun: bool = False


class TokenSource:
    """Yields every choice's deltas in order; if a worker fails, another one continues from the last token.

    The other worker gets the tokens so far and the same seed, and every draw depends on seed, choice and
    position alone: the answer stays the same, no token is repeated or lost. While a part waits for its new
    worker, the other choices wait with it. Call `open` first; `close` must be called in the end.

    `shortcuts`, by choice: functions that take tokens while the caller of `next` waits. A shortcut appends
    the tokens it takes to `outputs`; `next` does not return these. After a failure `next` returns the next
    delta of every worker, which shows that the request goes on.
    """

    def __init__(
        self,
        submission: Submission,
        router: Router,
        vision: VisionStage,
        policy: FailoverPolicy,
        on_failover: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: seconds; must be the running loop's clock."""
        self._clock = clock
        self._submission = submission
        self._router = router
        self._vision = vision
        self._policy = policy
        self._on_failover = on_failover
        self._inbox: StreamInbox = Inbox()
        self.shortcuts: dict[int, Shortcut] = {}
        self._legs: dict[TokenStream, _Leg] = {}
        self._watch: asyncio.TimerHandle | None = None
        self.outputs: list[list[int]] = [[] for _ in range(submission.submit.sampling.n)]
        self._unfinished = set(range(len(self.outputs)))
        self._cut: set[int] = set()
        self._avoid: dict[str, int] = defaultdict(int)
        self.failovers = 0
        # By choice: failures in a row without a token between them, and the number of tokens at the last one.
        self._failures = [(0, 0)] * len(self.outputs)
        self._stuck_since: float | None = None
        self._backoff = Backoff()
        # What is on its way to a worker, beside the caller: nobody reads the inbox then.
        self._sending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Submits; while media are encoded or no decode worker serves, a task waits for that and submits.

        Raises Unavailable at once if no decode worker serves and none is expected back. Retries after later
        failures, or while no encoder serves.
        """
        away_since = self._router.decode_away_since()
        if away_since is not None and self._clock() > self._give_up_at(away_since):
            self._router.require(images=False)
        send = self._send([Part(range(len(self.outputs)))], began=away_since)
        if self._submission.has_media or away_since is not None:
            self._begin(send)
        else:
            await send

    async def accepted(self, within_s: float) -> None:
        """Returns when a worker no longer refuses the request or has begun to answer it, at the latest after
        `within_s`, media encoded or not. Raises as `next`. Call it before `next`, or not at all.
        """
        until = self._clock() + within_s
        while await self._sent(until) and await self._inbox.wait_until(until):
            stream, item = taken = self._inbox.take()
            leg = self._legs.get(stream)
            if leg is None:
                continue
            if not isinstance(item, PerigeeError):
                self._inbox.put_back(taken)
                return
            self._begin(self._go_on_elsewhere(stream, leg, item))

    async def next(self) -> list[TokenDelta]:
        """Returns all deltas of any choice since the last call, at least one.

        Raises the error that no failover can cure.
        """
        while True:
            if self._sending is not None:
                await self._sent()
            await self._inbox.wait()
            deltas: list[TokenDelta] = []
            while self._inbox:
                stream, item = taken = self._inbox.take()
                leg = self._legs.get(stream)
                if leg is None:
                    continue  # from a worker that was given up
                if item is ACCEPTED:
                    stream.last_seen_at = self._clock()
                elif not isinstance(item, PerigeeError):
                    self._take(stream, leg, item)
                    deltas.append(item)
                elif deltas:
                    self._inbox.put_back(taken)
                    break
                else:
                    await self._go_on_elsewhere(stream, leg, item)
            if deltas:
                return deltas

    @property
    def sent_at(self) -> float:
        """When a worker was asked last, in seconds of the clock; 0: none has been."""
        return self._submission.sent_at

    def count_generated(self) -> int:
        """Number of tokens that workers have sent so far, of all choices."""
        return sum(map(len, self.outputs))

    def finish(self, choice: int) -> None:
        """Ends a choice: its worker has finished it, or the caller wants no more of it."""
        self._unfinished.discard(choice)
        self.shortcuts.pop(choice, None)
        for stream, leg in list(self._legs.items()):
            if self._unfinished.isdisjoint(leg.part.choices):
                del self._legs[stream]
                stream.close()

    def close(self) -> None:
        """Tells the workers to stop unless all is done. Idempotent."""
        legs, self._legs = self._legs, {}
        for stream in legs:
            stream.close()
        if self._watch is not None:
            self._watch.cancel()
        if self._sending is not None:
            self._sending.cancel()
        self.shortcuts.clear()

    def _begin(self, send: Coroutine[Any, Any, None]) -> None:
        """Sends beside the caller; `_sent` waits for it."""
        self._sending = asyncio.create_task(send)
        # A failure that nobody waits for any more is no defect.
        self._sending.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _sent(self, until: float | None = None) -> bool:
        """Whether nothing is on its way to a worker any more, after waiting for that, at the latest until
        `until`. Raises the failure.
        """
        if (sending := self._sending) is None:
            return True
        left = None if until is None else max(0.0, until - self._clock())
        if not (await asyncio.wait([sending], timeout=left))[0]:
            return False
        self._sending = None
        sending.result()
        return True

    def _take(self, stream: TokenStream, leg: _Leg, delta: TokenDelta) -> None:
        """Records the tokens, from which another worker would continue."""
        stream.last_seen_at = self._clock()
        choice, token_ids = delta.choice, delta.token_ids
        if delta.is_cut:
            self._cut.add(choice)
        if token_ids:
            self.outputs[choice].extend(token_ids)
            stream.shortcuts = self.shortcuts
            if not leg.begun:
                leg.begun = True
                if stream.circuit is not None:
                    stream.circuit.succeeded()
                self._watch_silence()
            if self._stuck_since is not None or self._avoid:
                self._stuck_since = None
                self._avoid.clear()
                self._backoff.reset()
        if delta.finish_reason:
            self.finish(choice)

    def _watch_silence(self) -> None:
        """Sets a timer to the time at which the first worker will have been silent for too long."""
        if self._watch is not None:
            self._watch.cancel()
        if self._legs:
            due = min(self._due(stream, leg) for stream, leg in self._legs.items())
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(max(0.0, due - self._clock()), self._notice_silence)

    def _notice_silence(self) -> None:
        now = self._clock()
        # Deltas that wait in the inbox show that the caller is slow, not the worker.
        behind = bool(self._inbox)
        for stream, leg in self._legs.items():
            late_s = now - self._due(stream, leg)
            if late_s < 0:
                continue
            if late_s > _DELIVERY_S:
                # This process stood still. What came meanwhile is delivered in the time that is added.
                stream.last_seen_at += late_s + _DELIVERY_S
                continue
            if not behind:
                what = "token" if leg.begun else "first token"
                lost = f"decode worker {stream.worker} gave no {what} for {self._limit_s(leg):g} s"
                self._inbox.put((stream, WorkerLost(lost)))
                if stream.circuit is not None:
                    stream.circuit.failed()
            stream.last_seen_at = now
        self._watch_silence()

    def _due(self, stream: TokenStream, leg: _Leg) -> float:
        return stream.last_seen_at + self._limit_s(leg)

    def _limit_s(self, leg: _Leg) -> float:
        return self._policy.token_s if leg.begun else self._policy.first_token_s

    async def _go_on_elsewhere(self, failed: TokenStream, leg: _Leg, error: PerigeeError) -> None:
        """Sends the choices of a failed leg to another worker. Raises the error if that cannot cure it."""
        del self._legs[failed]
        failed.close()
        for stream in (failed, *self._legs):
            stream.shortcuts = NO_SHORTCUTS
        parts = self._remaining(leg.part)
        if not parts:
            return
        if isinstance(error, WorkerLost | Overloaded):
            self._avoid[failed.worker] += 1
        if not self._is_curable(leg.part, error):
            raise error
        self.failovers += 1
        self._on_failover()
        choices = list(leg.part.choices)
        log.warning(
            "going on elsewhere", request=self._submission.submit.request_id, detail=error.message,
            choices=choices, tokens=[len(self.outputs[choice]) for choice in choices],
        )  # fmt: skip
        if not leg.begun:
            # The cause may fail it again: the gateway must notice a lost worker before it chooses.
            await asyncio.sleep(self._backoff.delay())
        await self._send(parts, error)

    def _is_curable(self, part: Part, error: PerigeeError) -> bool:
        """Whether another attempt may help and is allowed; counts it."""
        now = self._clock()
        if self._stuck_since is None:
            self._stuck_since = now
        if isinstance(error, Overloaded):
            if any(self.outputs):
                return now < self._give_up_at(self._stuck_since)
            # Without tokens the request can be shed at no loss, unless another worker may have room.
            return any(address not in self._avoid for address in self._router.decode_addresses())
        for choice in part.choices:
            (count, tokens), length = self._failures[choice], len(self.outputs[choice])
            self._failures[choice] = (count + 1 if tokens == length else 1, length)
        allowed = self._failures[part.choices.start][0] <= self._policy.max_failovers
        return allowed and isinstance(error, Unavailable)

    def _remaining(self, part: Part) -> list[Part]:
        """Returns the rest of a part: the part itself if it has no token yet, else one part per choice."""
        unfinished = [choice for choice in part.choices if choice in self._unfinished]
        if len(unfinished) == len(part.choices) and not any(self.outputs[choice] for choice in unfinished):
            return [part]
        return [
            Part(range(choice, choice + 1), tuple(self.outputs[choice]), choice in self._cut)
            for choice in unfinished
        ]

    async def _send(
        self, parts: list[Part], cause: PerigeeError | None = None, began: float | None = None
    ) -> None:
        """Sends parts; waits for a worker as `_give_up_at` says. Raises the last error, after the cause.
        `began`: since when there is none, by default now.
        """
        began = self._clock() if began is None else began
        backoff = Backoff()
        while True:
            try:
                sent = await self._submission.send(
                    parts, self._router, self._vision, self._inbox, self._avoid
                )
                break
            except (Unavailable, Overloaded) as error:
                delay = backoff.delay()
                shed = isinstance(error, Overloaded) and not any(self.outputs)
                if shed or self._clock() + delay > self._give_up_at(began):
                    raise error.after(cause) from cause
                await asyncio.sleep(delay)
        for stream, part in sent.items():
            stream.last_seen_at = self._clock()
            self._legs[stream] = _Leg(part)
        self._watch_silence()

    def _give_up_at(self, began: float) -> float:
        """Until when a wait for a worker that began then may last: not beyond the request's deadline."""
        restart_s = self._router.last_restart_s(images=self._submission.has_media)
        return min(began + self._policy.wait_s(restart_s), self._submission.deadline)
