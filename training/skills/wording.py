"""Wordings with alternatives: `[A|B|]` stands for one of A, B and nothing, and may be nested."""

from __future__ import annotations

from collections.abc import Sequence

from training.skills.dice import Dice
from training.skills.split import Split


def expand(pattern: str, dice: Dice) -> str:
    """One wording of a pattern, with fields in braces kept. ValueError if brackets do not match."""
    text, rest = _sequence(pattern, dice)
    if rest:
        raise ValueError(f"unmatched bracket in {pattern!r}")
    return text


def pick_wording(patterns: Sequence[str], dice: Dice, split: Split) -> str:
    """A wording of one of the patterns that belongs to the split, with its fields still in braces."""
    return split.draw("wording", lambda: expand(dice.pick(patterns), dice))


def _sequence(pattern: str, dice: Dice) -> tuple[str, str]:
    """Expands up to the closing `|` or `]`; returns the text and the rest of the pattern from there on."""
    text = ""
    while pattern and pattern[0] not in "|]":
        if pattern[0] == "[":
            chosen, pattern = _choice(pattern[1:], dice)
            text += chosen
        else:
            text += pattern[0]
            pattern = pattern[1:]
    return text, pattern


def _choice(pattern: str, dice: Dice) -> tuple[str, str]:
    """Expands after a `[`: returns one alternative and the rest of the pattern after the `]`."""
    alternatives: list[str] = []
    while True:
        text, pattern = _sequence(pattern, dice)
        alternatives.append(text)
        if not pattern:
            raise ValueError("a bracket is not closed")
        mark, pattern = pattern[0], pattern[1:]
        if mark == "]":
            return dice.pick(alternatives), pattern
