"""A prompt as an alternation of control tokens, which the template writes, and text, which it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from services.families.kimi.special import NAMES
from services.families.kimi.tokenizer import KimiTokenizer


class Segment(NamedTuple):
    """`special`: `text` is the name of one special token; otherwise ordinary text, whatever it contains."""

    text: str
    special: bool


class SegmentWriter:
    """Collects segments; adjacent pieces of text become one, because they are encoded as one."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._text: list[str] = []

    def marker(self, field: str) -> None:
        """Adds a special token by its field in SpecialTokens."""
        self._close_text()
        self._segments.append(Segment(NAMES[field], special=True))

    def text(self, text: str) -> None:
        """Adds ordinary text."""
        self._text.append(text)

    def finish(self) -> tuple[Segment, ...]:
        """All that was added."""
        self._close_text()
        return tuple(self._segments)

    def _close_text(self) -> None:
        if not self._text:
            return
        text = "".join(self._text)
        self._text.clear()
        if text:
            self._segments.append(Segment(text, special=False))


def encode_segments(segments: Sequence[Segment], tokenizer: KimiTokenizer) -> list[int]:
    """The token ids. Only markers become special ids: text from outside cannot forge one."""
    ids: list[int] = []
    for segment in segments:
        ids += tokenizer.encode(segment.text, parse_special=segment.special)
    return ids
