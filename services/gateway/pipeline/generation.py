"""One submitted request: the tokens of its choices, turned into deltas of text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

from perigee.v1 import decode_pb2, sampling_pb2
from services.common.errors import PerigeeError
from services.gateway.admission import Ticket
from services.gateway.pipeline.answer import Answer, fold
from services.gateway.pipeline.choice import ChoiceDecoder
from services.gateway.pipeline.events import ChoiceDelta, Completion
from services.gateway.pipeline.rendering import Prompt
from services.gateway.pipeline.token_source import TokenSource


class Sink(Protocol):
    """Where deltas can go without anybody waiting. `ready`: whether `take` may be called now."""

    @property
    def ready(self) -> bool: ...

    def take(self, delta: ChoiceDelta) -> None: ...


class Generation:
    """Iterate once, to the end; then `usage` is complete. Made by Pipeline.open, which also ends it.

    A choice that met a stop string is over at once: what the worker still sends for it is dropped. The worker
    is told to stop when the last choice is over.
    """

    def __init__(
        self,
        head: Completion,
        source: TokenSource,
        choices: list[ChoiceDecoder],
        prompt: Prompt,
        ticket: Ticket,
    ) -> None:
        self.head = head
        self._source = source
        self._choices = choices
        self._prompt = prompt
        self._ticket = ticket
        self._cached_tokens: int | None = None

    @property
    def usage(self) -> sampling_pb2.Usage:
        """Token accounting so far."""
        return sampling_pb2.Usage(
            prompt_tokens=len(self._prompt.token_ids),
            completion_tokens=sum(choice.completion_tokens for choice in self._choices),
            cached_tokens=min(self._cached_tokens or 0, len(self._prompt.token_ids)),
            reasoning_tokens=sum(choice.reasoning_tokens for choice in self._choices),
            image_tokens=self._prompt.image_tokens,
            video_tokens=self._prompt.video_tokens,
        )

    async def __aiter__(self) -> AsyncIterator[ChoiceDelta]:
        """The deltas, in the order the workers sent them; raises what the request failed with.

        What came while the caller was busy with the last one is one delta for each choice in a row.
        """
        running = len(self._choices)
        while running:
            waiting: ChoiceDelta | None = None
            try:
                for delta in await self._source.next():
                    self._note(delta)
                    choice = self._choices[delta.choice]
                    if choice.finished:
                        continue
                    news = choice.feed(delta)
                    if choice.finished:
                        running -= 1
                        self._source.finish(delta.choice)
                    if waiting is None or news is None:
                        waiting = waiting or news
                    elif waiting.index == news.index:
                        waiting.join(news)
                    else:
                        yield waiting
                        waiting = news
            except PerigeeError:
                if waiting is not None:
                    yield waiting
                raise
            if waiting is not None:
                yield waiting

    def attach(self, sink: Sink) -> None:
        """Gives text to the sink the moment it comes, if it is ready and the caller waits for the next delta.

        Everything else, and what comes at other times, is given by iterating; the order is kept.
        """
        self._source.shortcut = partial(self._give, sink)

    def close(self) -> None:
        """Tells the workers to stop unless all is done. Idempotent."""
        self._source.close()

    async def answer(self) -> Answer:
        """The whole answer."""
        choices = await fold(aiter(self), len(self._choices))
        return Answer(choices, self.usage)

    def _give(self, sink: Sink, choice: int, token_id: int) -> bool:
        """A token to the sink, or not at all."""
        if self._cached_tokens is None or not sink.ready:
            return False
        news = self._choices[choice].plain(token_id)
        if news is None:
            return False
        self._ticket.tokens(choice)
        sink.take(news)
        return True

    def _note(self, delta: decode_pb2.SequenceDelta) -> None:
        if delta.token_ids:
            self._ticket.tokens(delta.choice)
        if self._cached_tokens is None and delta.HasField("stats"):
            # After a failure this may be what the failed attempt computed: no saving of the caller's.
            found = delta.stats.cached_tokens + delta.stats.prefill_cached_tokens
            self._cached_tokens = 0 if self._source.failovers else found
