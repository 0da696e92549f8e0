"""The tokens of one request, from whichever decode worker has it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from perigee.v1 import decode_pb2
from services.common.errors import MediaLost, Overloaded, PerigeeError, Unavailable
from services.gateway.pipeline.encoding import VisionStage
from services.gateway.pipeline.submission import Part, Submission
from services.gateway.router import Router
from services.gateway.workers.backoff import Backoff
from services.gateway.workers.token_stream import News, TokenStream

log = structlog.get_logger()


@dataclass(frozen=True)
class FailoverPolicy:
    """What a request may cost after failures. Seconds: for the first token on one worker, between two tokens,
    and to wait for a worker to go on with. `max_failovers`: over the request's life.
    """

    first_token_s: float
    token_s: float
    worker_wait_s: float
    max_failovers: int


class TokenSource:
    """Hands on every choice's deltas in order; where a worker fails, another goes on from the last token.

    The other worker gets the tokens so far and the same seed, and every draw depends on seed, choice and
    position alone: the answer is what it would have been, nothing is repeated, nothing is lost. `open` first;
    `close` in the end, whatever happened.
    """

    def __init__(
        self,
        submission: Submission,
        router: Router,
        vision: VisionStage,
        policy: FailoverPolicy,
        on_failover: Callable[[], None],
    ) -> None:
        self._submission = submission
        self._router = router
        self._vision = vision
        self._policy = policy
        self._on_failover = on_failover
        self._news: asyncio.Queue[News] = asyncio.Queue()
        self._streams: dict[TokenStream, Part] = {}
        self._outputs: list[list[int]] = [[] for _ in range(submission.sampling.n)]
        self._unfinished = set(range(submission.sampling.n))
        self._begun: set[TokenStream] = set()
        self._failovers = [0] * len(self._outputs)
        self._avoid: set[str] = set()
        self._backoff = Backoff()

    async def open(self) -> None:
        """Submits. Raises what Submission.send raises: a request that was never taken is not held up."""
        everything = Part(range(len(self._outputs)))
        self._streams = await self._submission.send([everything], self._router, self._vision, self._news)

    async def next(self) -> decode_pb2.SequenceDelta:
        """The next delta of any choice. Raises what the request failed with, for good."""
        while True:
            stream, item = await self._hear()
            if stream not in self._streams:
                continue  # the last words of a worker that was given up
            if isinstance(item, PerigeeError):
                await self._go_on_elsewhere(stream, item)
                continue
            self._outputs[item.choice].extend(item.token_ids)
            self._begun.add(stream)
            if item.finish_reason:
                self.finish(item.choice)
            return item

    def finish(self, choice: int) -> None:
        """No more of this choice is wanted, or there is none."""
        self._unfinished.discard(choice)
        for stream, part in list(self._streams.items()):
            if self._unfinished.isdisjoint(part.choices):
                del self._streams[stream]
                stream.close()

    def close(self) -> None:
        """Tells the workers to stop unless all is done. Idempotent."""
        streams, self._streams = self._streams, {}
        for stream in streams:
            stream.close()

    async def _hear(self) -> News:
        """What comes next; where nothing comes for too long, a failure of the oldest stream's worker."""
        begun = not self._begun.isdisjoint(self._streams)
        limit_s = self._policy.token_s if begun else self._policy.first_token_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._news.get()
        except TimeoutError:
            silent = next(iter(self._streams))
            what = "token" if begun else "first token"
            return silent, Unavailable(f"decode worker {silent.worker} gave no {what} for {limit_s:g} s")

    async def _go_on_elsewhere(self, failed: TokenStream, error: PerigeeError) -> None:
        """Has another worker take the choices of a failed stream. Raises the error where that is no cure."""
        part = self._streams.pop(failed)
        failed.close()
        parts = self._remaining(part)
        if not parts:
            return
        if not isinstance(error, MediaLost):
            self._avoid.add(failed.worker)
        if not self._is_curable(part, error):
            raise error
        self._on_failover()
        for choice in part.choices:
            self._failovers[choice] += 1
        log.warning(
            "going on elsewhere", request=self._submission.request_id, detail=error.message,
            choices=list(part.choices), tokens=[len(self._outputs[choice]) for choice in part.choices],
        )  # fmt: skip
        if failed in self._begun:
            self._backoff.reset()
        else:
            # What failed it may fail it again: the gateway is to hear of that before it chooses.
            await asyncio.sleep(self._backoff.delay())
        self._streams |= await self._send(parts, error)

    def _is_curable(self, part: Part, error: PerigeeError) -> bool:
        """Whether another attempt may help, and is allowed."""
        if self._failovers[part.choices.start] >= self._policy.max_failovers:
            return False
        if isinstance(error, Overloaded) and not any(self._outputs):
            # Nothing is lost by shedding it, unless somebody else has room.
            serving = self._router.decode_addresses()
            return any(address not in self._avoid for address in serving)
        return isinstance(error, Unavailable | Overloaded)

    def _remaining(self, part: Part) -> list[Part]:
        """What is left of a part: the same where no token came, else choice by choice."""
        unfinished = [choice for choice in part.choices if choice in self._unfinished]
        if len(unfinished) == len(part.choices) and not any(self._outputs[choice] for choice in unfinished):
            return [part]
        return [Part(range(choice, choice + 1), tuple(self._outputs[choice])) for choice in unfinished]

    async def _send(self, parts: list[Part], cause: PerigeeError) -> dict[TokenStream, Part]:
        """Sends parts, waiting a while for workers to come (back). Raises the cause, and what is missing."""
        give_up = time.monotonic() + self._policy.worker_wait_s
        backoff = Backoff()
        while True:
            try:
                return await self._submission.send(parts, self._router, self._vision, self._news, self._avoid)
            except (Unavailable, Overloaded) as error:
                delay = backoff.delay()
                if time.monotonic() + delay > give_up:
                    raise type(error)(f"{cause.message}; then {error.message}") from cause
                await asyncio.sleep(delay)
