"""One submitted request: the tokens of its choices, turned into deltas of text."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from perigee.v1 import generation_pb2, sampling_pb2
from services.common.errors import PerigeeError
from services.families.output import TextKind
from services.gateway.admission import Ticket
from services.gateway.pipeline.output.answer import Answer, fold
from services.gateway.pipeline.output.choice import ChoiceDecoder
from services.gateway.pipeline.output.events import ChoiceDelta, Completion
from services.gateway.pipeline.output.plain_tokens import PlainTokens
from services.gateway.pipeline.output.scored_prompt import ScoredPrompt
from services.gateway.pipeline.token_source import TokenSource
from services.gateway.workers.stream.token_delta import TokenDelta
from services.gateway.workers.stream.token_stream import Shortcut


class Sink(Protocol):
    """Takes plain tokens at once, outside of the iteration over deltas."""

    def writer(self, choice: int, *, reasoning: bool) -> Callable[[int], bool] | None:
        """Returns a function that takes one token of the choice's content, or reasoning. It shows a token of
        whole characters and returns True if there is room; None: the tokens come as deltas, for now.
        """


class Generation:
    """Iterate once, to the end; then `usage` is complete. Made by Pipeline.open, which also ends it.

    A choice that met a stop string ends at once: tokens that the worker still sends for it are dropped. The
    worker's request is cancelled when the last choice has ended.
    """

    def __init__(
        self,
        head: Completion,
        source: TokenSource,
        choices: list[ChoiceDecoder],
        prompt: sampling_pb2.Usage,
        ticket: Ticket,
        scored: ScoredPrompt | None = None,
        rendered: float | None = None,
    ) -> None:
        """`prompt`: the tokens of the prompt alone. `scored`: those whose log-probabilities are wanted.
        `rendered`: when the prompt was, by the monotonic clock; by default now.
        """
        self.head = head
        self._source = source
        self._choices = choices
        self._prompt = prompt
        self._ticket = ticket
        self._scored = scored
        self._cached_tokens: int | None = None
        self._began = time.monotonic() if rendered is None else rendered
        self._answered = False
        self._sink: Sink | None = None
        self._shortcuts: dict[tuple[int, TextKind], Shortcut] = {}

    @property
    def usage(self) -> sampling_pb2.Usage:
        """Token accounting so far."""
        usage = sampling_pb2.Usage(
            completion_tokens=sum(choice.completion_tokens for choice in self._choices),
            cached_tokens=min(self._cached_tokens or 0, self._prompt.prompt_tokens),
            reasoning_tokens=sum(choice.reasoning_tokens for choice in self._choices),
        )
        usage.MergeFrom(self._prompt)
        return usage

    @property
    def num_prompt_logprobs(self) -> int:
        """How many log-probabilities of the prompt are wanted, alternatives included."""
        return 0 if self._scored is None else self._scored.num_logprobs

    async def prompt_logprobs(self) -> Sequence[generation_pb2.PromptTokenLogprob]:
        """Returns the prompt's tokens with their log-probabilities, none if they are not wanted. Call after
        the first delta. Raises Incompatible if the worker has sent none.
        """
        return () if self._scored is None else await self._scored.tokens()

    async def accepted(self, within_s: float) -> None:
        """Returns when no worker refuses the request any more, at the latest after `within_s`. Raises the
        request's failure. Call it before iterating, or not at all.
        """
        await self._source.accepted(within_s)

    async def __aiter__(self) -> AsyncIterator[ChoiceDelta]:
        """Yields deltas in the order the workers sent them; raises the request's failure.

        Deltas that arrive while the caller is busy are joined, each run of one choice and kind into one.
        """
        running = len(self._choices)
        while running:
            waiting: ChoiceDelta | None = None
            try:
                deltas = await self._source.next()
                now = time.monotonic()
                for delta in deltas:
                    choice = self._choices[delta.choice]
                    if choice.finished:
                        continue
                    self._note(delta, now)
                    pieces = choice.feed(delta)
                    if choice.finished:
                        running -= 1
                        self._source.finish(delta.choice)
                    for piece in pieces:
                        if waiting is None:
                            waiting = piece
                        elif not waiting.join(piece):
                            yield waiting
                            waiting = piece
            except PerigeeError:
                if waiting is not None:
                    yield waiting
                raise
            if waiting is not None:
                yield waiting
            if self._sink is not None:
                for index in {delta.choice for delta in deltas}:
                    self._open_shortcut(index, self._sink)

    @property
    def finishes(self) -> list[sampling_pb2.FinishReason.ValueType]:
        """Finish reasons of the choices that have ended."""
        return [choice.finish for choice in self._choices if choice.finished]

    @property
    def unanswered(self) -> list[sampling_pb2.FinishReason.ValueType]:
        """Finish reasons of those of them that have reasoning, but neither content nor calls."""
        return [choice.finish for choice in self._choices if choice.only_reasoned]

    def ended(self, choice: int) -> bool:
        """Whether the choice has ended; deltas of its last tokens may still be on their way."""
        return self._choices[choice].finished

    def matched_stop(self, choice: int) -> str:
        """The stop string that ended the choice; empty: none did."""
        return self._choices[choice].matched_stop

    @property
    def all_ended(self) -> bool:
        """Whether no choice is running."""
        return all(choice.finished for choice in self._choices)

    @property
    def first_running(self) -> int:
        """The first choice that has not ended; 0 if all have."""
        return next((choice.index for choice in self._choices if not choice.finished), 0)

    def attach(self, sink: Sink) -> None:
        """Gives plain tokens to the sink as they arrive, while the caller waits for the next delta.

        All other tokens come by iterating; the order is kept. With stop strings, log-probabilities or
        reasoning that is held back, no token is plain.
        """
        self._sink = sink

    def close(self) -> None:
        """Tells the workers to stop unless all is done. Idempotent."""
        if not self._answered:
            self._answered = True
            self._ticket.gave_up(self._began, self._sent_at(), time.monotonic())
        self._source.close()
        # The sink refers to this generation: without this, only the garbage collector would free both.
        self._sink = None

    async def answer(self) -> Answer:
        """The whole answer."""
        choices = await fold(aiter(self), len(self._choices))
        return Answer(choices, self.usage, await self.prompt_logprobs())

    def _open_shortcut(self, index: int, sink: Sink) -> None:
        """Opens a shortcut for the choice's plain tokens until its next delta, or closes it."""
        self._source.shortcuts.pop(index, None)
        plain = self._choices[index].plain
        if plain is None:
            return
        shortcut = self._shortcuts.get((index, plain))
        if shortcut is None:
            show = sink.writer(index, reasoning=plain is TextKind.REASONING)
            if show is None:
                return
            tokens = PlainTokens(self._choices[index], self._source.outputs[index], self._ticket, show)
            shortcut = self._shortcuts[index, plain] = tokens.take
        self._source.shortcuts[index] = shortcut

    def _sent_at(self) -> float:
        """When a worker was asked last; where none has been, now."""
        return self._source.sent_at or time.monotonic()

    def _note(self, delta: TokenDelta, now: float) -> None:
        if delta.token_ids:
            self._ticket.tokens(delta.choice, now)
        # Later stats come only after a failure.
        if (self._cached_tokens is None or self._source.failovers) and delta.stats is not None:
            self._ticket.record.served_by("prefill", delta.stats.prefill_address)
            if self._cached_tokens is not None:
                return
            # After a failure, cached pages may be those of the failed attempt, which save the caller nothing.
            self._cached_tokens = 0 if self._source.failovers else delta.stats.all_cached_tokens
            self._answered = True
            self._ticket.answered(delta.stats, self._prompt.prompt_tokens, self._began, self._sent_at(), now)
