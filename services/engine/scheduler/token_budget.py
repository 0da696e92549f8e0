"""Chunked prefill: how many tokens of each prompt the next forward pass computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Chunkable(Protocol):
    """A prompt that can be computed in pieces."""

    def next_chunk(self, budget: int) -> int:
        """How many of at most `budget` tokens it would take; 0: none."""


C = TypeVar("C", bound=Chunkable)


def share_budget(prompts: Iterable[C], budget: int) -> list[tuple[C, int]]:
    """First come, first served: earlier prompts take what they can use, later ones the rest.

    Returns the prompts that take part, each with its number of tokens; their sum is at most `budget`.
    """
    shares: list[tuple[C, int]] = []
    for prompt in prompts:
        chunk = prompt.next_chunk(budget)
        if chunk > 0:
            shares.append((prompt, chunk))
            budget -= chunk
        if budget <= 0:
            break
    return shares
