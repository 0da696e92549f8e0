"""The tokens of a prompt with their log-probabilities, the same for every door."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perigee.v1 import generation_pb2, sampling_pb2
from services.common.errors import Incompatible
from services.families.tokenizer import Tokenizer
from services.gateway.workers.stream.prompt_scores import PromptScores

# Beyond, it takes several milliseconds, and other requests would wait.
MOST_AT_ONCE = 2_048


class ScoredPrompt:
    """The tokens of a prompt from `first` on; `scores` has or will have those that are scored.

    Not scored are token 0 and media pads, which the model does not predict.
    """

    def __init__(
        self, token_ids: Sequence[int], first: int, scores: PromptScores, tokenizer: Tokenizer
    ) -> None:
        self._token_ids = token_ids
        self._first = first
        self._scores = scores
        self._tokenizer = tokenizer
        self._made: list[generation_pb2.PromptTokenLogprob] | None = None

    @property
    def num_logprobs(self) -> int:
        """How many log-probabilities there are, alternatives included."""
        return (len(self._token_ids) - self._first) * (1 + self._scores.top)

    async def tokens(self) -> list[generation_pb2.PromptTokenLogprob]:
        """Returns the tokens, texts filled in. Call when a choice has a token or has ended.

        Raises Incompatible if the worker has sent no scores.
        """
        if not self._scores.complete:
            raise Incompatible("the decode worker computes no log-probabilities of prompts")
        if self._made is None:
            many = self.num_logprobs > MOST_AT_ONCE
            self._made = await asyncio.to_thread(self._tokens) if many else self._tokens()
        return self._made

    def _tokens(self) -> list[generation_pb2.PromptTokenLogprob]:
        return [self._token(place) for place in range(self._first, len(self._token_ids))]

    def _token(self, place: int) -> generation_pb2.PromptTokenLogprob:
        scores, token_id = self._scores, self._token_ids[place]
        if place < scores.first or token_id == self._tokenizer.media_pad:
            return generation_pb2.PromptTokenLogprob(token=self._named(token_id, 0.0))
        index = place - scores.first
        others = slice(index * scores.top, (index + 1) * scores.top)
        return generation_pb2.PromptTokenLogprob(
            token=self._named(token_id, scores.logprobs[index]),
            scored=True,
            rank=scores.ranks[index],
            top=map(self._named, scores.top_ids[others], scores.top_logprobs[others]),
        )

    def _named(self, token_id: int, logprob: float) -> sampling_pb2.TokenLogprob:
        spelt = self._tokenizer.token_bytes(token_id)
        return sampling_pb2.TokenLogprob(
            token_id=token_id, logprob=logprob, token=spelt.decode(errors="replace"), token_bytes=spelt
        )
