"""Assigns cases to training or evaluation by their contents."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

T = TypeVar("T")
_HELD_OUT_SHARE = 8
MOST_DRAWS = 10_000


class Split(Enum):
    """Every number pair, name, tool, layout and wording belongs to exactly one of the two."""

    TRAIN = "train"
    HELD_OUT = "held-out"

    def accepts(self, kind: str, key: object) -> bool:
        """Whether a thing of this kind belongs to this split; one of eight is held out, chosen by
        checksum.
        """
        held_out = zlib.crc32(f"{kind}:{key}".encode()) % _HELD_OUT_SHARE == 0
        return held_out == (self is Split.HELD_OUT)

    def draw(self, kind: str, make: Callable[[], T]) -> T:
        """Draws until a result belongs to this split. ValueError if none of 10,000 does."""
        for _ in range(MOST_DRAWS):
            made = make()
            if self.accepts(kind, made):
                return made
        raise ValueError(f"no {kind} of {MOST_DRAWS} drawn belongs to {self.value}")
