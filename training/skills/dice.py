"""Random draws that give the same values in every version of Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws from the stream that `seed` selects. Uses only `Random.random`, the one method that is guaranteed
    to stay the same.
    """

    def __init__(self, *seed: int | str) -> None:
        self._random = Random(":".join(map(str, seed)))

    def below(self, limit: int) -> int:
        """An integer from 0 to `limit` - 1."""
        return int(self._random.random() * limit)

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random.random() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """A random element of `choices`."""
        return choices[self.below(len(choices))]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """`count` different elements of `choices`, in random order."""
        rest = list(choices)
        return [rest.pop(self.below(len(rest))) for _ in range(count)]

    def weighted(self, weights: Mapping[str, float]) -> str:
        """A random key, with a probability proportional to its weight."""
        point = self._random.random() * sum(weights.values())
        for key, weight in weights.items():
            point -= weight
            if point < 0:
                return key
        return key
