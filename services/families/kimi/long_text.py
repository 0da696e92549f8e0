"""Cutting long text as the published tokenizer does, so that ids agree and no expression runs away."""

from __future__ import annotations

import re
from collections.abc import Iterator

SLICE_CHARS = 400_000
RUN_CHARS = 25_000

# `\s` of Python's str patterns is str.isspace, which the published rule uses. The look-behinds let a match
# begin only where a run begins, which keeps the search linear.
_LONG_RUN = re.compile(rf"(?<!\s)\s{{{RUN_CHARS + 1},}}|(?<!\S)\S{{{RUN_CHARS + 1},}}")


def split_long_text(text: str) -> Iterator[str]:
    """Pieces to be encoded apart; joined they are `text`, and empty text has none.

    First slices of SLICE_CHARS characters; in each, a run of white space or of anything else is cut after
    every RUN_CHARS characters. The cuts are blind: a special-token string across one becomes ordinary text.
    """
    for start in range(0, len(text), SLICE_CHARS):
        piece = text[start : start + SLICE_CHARS]
        if len(piece) <= RUN_CHARS:
            yield piece
        else:
            yield from _split_runs(piece)


def _split_runs(piece: str) -> Iterator[str]:
    begin = 0
    for run in _LONG_RUN.finditer(piece):
        for cut in range(run.start() + RUN_CHARS, run.end(), RUN_CHARS):
            yield piece[begin:cut]
            begin = cut
    yield piece[begin:]
