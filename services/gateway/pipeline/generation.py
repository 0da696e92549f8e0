"""One submitted request: the tokens of its choices, turned into deltas of text."""

from __future__ import annotations

from collections.abc import AsyncIterator

from perigee.v1 import decode_pb2, sampling_pb2
from services.gateway.admission import Ticket
from services.gateway.pipeline.answer import Answer, fold
from services.gateway.pipeline.call_gate import CallGate
from services.gateway.pipeline.choice import ChoiceDecoder
from services.gateway.pipeline.events import ChoiceDelta, Completion
from services.gateway.pipeline.token_source import TokenSource


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
        prompt_tokens: int,
        ticket: Ticket,
        gate: CallGate,
    ) -> None:
        self.head = head
        self._source = source
        self._choices = choices
        self._prompt_tokens = prompt_tokens
        self._ticket = ticket
        self._gate = gate
        self._cached_tokens: int | None = None

    @property
    def usage(self) -> sampling_pb2.Usage:
        """Token accounting so far."""
        return sampling_pb2.Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=sum(choice.completion_tokens for choice in self._choices),
            cached_tokens=min(self._cached_tokens or 0, self._prompt_tokens),
            reasoning_tokens=sum(choice.reasoning_tokens for choice in self._choices),
        )

    async def __aiter__(self) -> AsyncIterator[ChoiceDelta]:
        """The deltas, in the order the workers sent them; raises what the request failed with."""
        while not all(choice.finished for choice in self._choices):
            delta = self._gate.release(await self._source.next())
            self._note(delta)
            choice = self._choices[delta.choice]
            if choice.finished:
                continue
            news = choice.feed(delta)
            if choice.finished:
                self._source.finish(delta.choice)
            if news is not None:
                yield news

    def close(self) -> None:
        """Tells the workers to stop unless all is done. Idempotent."""
        self._source.close()

    async def answer(self) -> Answer:
        """The whole answer."""
        choices = await fold(aiter(self), len(self._choices))
        return Answer(choices, self.usage)

    def _note(self, delta: decode_pb2.SequenceDelta) -> None:
        if delta.token_ids:
            self._ticket.tokens(delta.choice)
        if delta.HasField("stats") and self._cached_tokens is None:
            # After a failure this may be what the failed attempt computed: no saving of the caller's.
            found = delta.stats.cached_tokens + delta.stats.prefill_cached_tokens
            self._cached_tokens = 0 if self._source.failovers else found
