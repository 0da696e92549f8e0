"""The /generate answer of one choice: cumulative, in SGLang's shape."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from perigee.v1 import generation_pb2, sampling_pb2
from services.families.tokenizer import Tokenizer
from services.gateway.http.shapes.generate import FinishAnswer, GenerateAnswer, MetaInfo
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.output.events import ChoiceDelta
from services.gateway.sampling import end_ids

_LENGTH = sampling_pb2.FINISH_REASON_LENGTH


class GenerateAnswerBuilder:
    """Accumulates the deltas of one choice; `answer` is all there is so far. The log-probabilities of
    the prompt, which may be long, are only in the first answer that has them and in the last.

    `named`: whether tokens of log-probabilities have their text beside them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        generation: Generation,
        sampling: sampling_pb2.SamplingParams,
        name: str,
        *,
        named: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._generation = generation
        self._sampling = sampling
        self._name = name
        self._named = named
        self._started = time.monotonic()
        self._text = ""
        self._ids: list[int] = []
        self._logprobs: list[list[Any]] = []
        self._top: list[list[list[Any]]] = []
        self._input: list[list[Any]] = []
        self._input_top: list[list[list[Any]] | None] = []
        self._prompt_shown = False
        self._finish: FinishAnswer | None = None

    @property
    def finished(self) -> bool:
        """Whether the choice has ended."""
        return self._finish is not None

    def feed_prompt(self, tokens: Sequence[generation_pb2.PromptTokenLogprob]) -> None:
        """Adds the log-probabilities of the prompt. The first is always null, as SGLang has it."""
        for place, position in enumerate(tokens):
            token, scored = position.token, position.scored and place > 0
            self._input.append([token.logprob if scored else None, *self._entry(token)[1:]])
            self._input_top.append([self._entry(other) for other in position.top] if scored else None)

    def feed(self, delta: ChoiceDelta) -> None:
        """Adds what is new."""
        self._text += delta.content
        self._ids += delta.token_ids
        self._logprobs += [self._entry(position.sampled) for position in delta.logprobs]
        self._top += [[self._entry(token) for token in position.top] for position in delta.logprobs]
        if delta.finish_reason:
            self._finish = self._reason(delta.finish_reason)

    def answer(self, index: int | UnsetType = UNSET) -> GenerateAnswer:
        """`completion_tokens` are the choice's own. `index`: among several choices."""
        usage = self._generation.usage
        meta = MetaInfo(
            id=self._name,
            finish_reason=self._finish,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=len(self._ids),
            cached_tokens=usage.cached_tokens,
        )
        if self._sampling.logprobs:
            shows_prompt = self._finish is not None or not self._prompt_shown
            meta.input_token_logprobs = self._input if shows_prompt else []
            meta.output_token_logprobs = self._logprobs
            if self._sampling.top_logprobs:
                meta.output_top_logprobs = self._top
                if self._input and shows_prompt:
                    meta.input_top_logprobs = self._input_top
            self._prompt_shown = bool(self._input)
        if self._finish is None:
            return GenerateAnswer(text=self._text, meta_info=meta, index=index)
        meta.e2e_latency = time.monotonic() - self._started
        return GenerateAnswer(text=self._text, output_ids=self._ids, meta_info=meta, index=index)

    def _entry(self, token: sampling_pb2.TokenLogprob) -> list[Any]:
        return [token.logprob, token.token_id, token.token if self._named else None]

    def _reason(self, finish: sampling_pb2.FinishReason.ValueType) -> FinishAnswer:
        """The finish reason: the length, a token's id, or the stop string that follows the text."""
        if finish == _LENGTH:
            return FinishAnswer("length", length=len(self._ids))
        if self._ids and self._ids[-1] in end_ids(self._sampling, self._tokenizer.stop_ids):
            return FinishAnswer("stop", matched=self._ids[-1])
        written = self._tokenizer.decode(self._ids, skip_flagged=not self._sampling.keep_special_tokens)
        rest = written[len(self._text) :]
        stops = [stop for stop in self._sampling.stop if rest.startswith(stop)]
        return FinishAnswer("stop", matched=max(stops, key=len, default=None))
