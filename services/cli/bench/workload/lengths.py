"""Random lengths of prompts and answers."""

from __future__ import annotations

import random

_WORDS = 624
_MULTIPLIER = 1812433253


class LengthDraws:
    """Draws lengths as NumPy's `random.seed` and `random.randint` do, so that a scenario has the lengths that
    SGLang's benchmark gives it for the same seed.

    NumPy's generator is the standard library's with another way to begin and to keep a draw in its range.
    """

    def __init__(self, seed: int) -> None:
        """`seed`: 0 to 2^32 - 1."""
        state = [seed]
        for index in range(1, _WORDS):
            before = state[-1]
            state.append((_MULTIPLIER * (before ^ (before >> 30)) + index) & 0xFFFFFFFF)
        self._random = random.Random()
        self._random.setstate((3, (*state, _WORDS), None))

    def lengths(self, most: int, least_ratio: float, count: int) -> list[int]:
        """Returns `count` lengths, uniform from `least_ratio` of `most` (at least 1) to `most`."""
        least = max(int(most * least_ratio), 1)
        return [least + self._below(most - least) for _ in range(count)]

    def _below(self, greatest: int) -> int:
        """Returns a whole number from 0 to `greatest`."""
        if greatest == 0:
            return 0
        bits = (1 << greatest.bit_length()) - 1
        while (drawn := self._random.getrandbits(32) & bits) > greatest:
            pass
        return drawn
