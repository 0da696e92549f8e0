"""Log-probabilities of a prompt in vLLM's shape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from perigee.v1 import generation_pb2
from services.gateway.http.shapes.prompt_logprobs import PromptLogprobsAnswer, PromptTokenEntry

_FEW = 512
"""Tokens of a prompt that become an answer at once; more would keep other requests waiting."""

PromptTokens: TypeAlias = Sequence[generation_pb2.PromptTokenLogprob]
Result = TypeVar("Result")


async def in_thread_if_many(
    function: Callable[[PromptTokens, int], Result], tokens: PromptTokens, top: int
) -> Result:
    """Applies `function` to the tokens of a prompt, in a thread if they are many."""
    if len(tokens) <= _FEW:
        return function(tokens, top)
    return await asyncio.to_thread(function, tokens, top)


def prompt_logprobs(tokens: PromptTokens, top: int) -> PromptLogprobsAnswer:
    """For each token of a prompt: itself first, then its `top` likeliest alternatives; by token id."""
    return [_position(token, top) if token.scored else None for token in tokens]


def _position(position: generation_pb2.PromptTokenLogprob, top: int) -> dict[str, PromptTokenEntry]:
    own = position.token
    entries = {str(own.token_id): PromptTokenEntry(own.logprob, position.rank, own.token)}
    for rank, token in enumerate(position.top[:top], 1):
        entries.setdefault(str(token.token_id), PromptTokenEntry(token.logprob, rank, token.token))
    return entries
