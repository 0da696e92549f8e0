"""Schema of a prompt's log-probabilities, as vLLM gives them."""

from __future__ import annotations

from typing import TypeAlias

from services.gateway.http.shapes.base import AnswerShape


class PromptTokenEntry(AnswerShape):
    """A token in a place of the prompt; `rank`: 1 for the likeliest there."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobsAnswer: TypeAlias = list[dict[str, PromptTokenEntry] | None]
"""For each token of the prompt, by token id: itself and the likeliest; null where nothing predicts it."""
