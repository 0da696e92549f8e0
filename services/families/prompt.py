"""A rendered prompt, and the places of its media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt with one media pad per image or chunk of video, not yet expanded.

    `text`: for people and logs; `media`: index in `token_ids` of each pad, in order of appearance.
    """

    token_ids: tuple[int, ...]
    text: str
    media: tuple[int, ...]


@dataclass(frozen=True)
class MediaRun:
    """The place of a medium's pads: tokens [offset, offset + num_tokens) of the expanded prompt."""

    offset: int
    num_tokens: int


def expand_media(
    prompt: RenderedPrompt, num_tokens: Sequence[int]
) -> tuple[tuple[int, ...], tuple[MediaRun, ...]]:
    """The ids with the i-th pad repeated `num_tokens[i]` times, and where each run of pads is.

    Raises ValueError unless there is one count, at least 1, per pad.
    """
    if len(num_tokens) != len(prompt.media) or min(num_tokens, default=1) < 1:
        raise ValueError(f"{len(prompt.media)} media, and counts {list(num_tokens)}")
    if not prompt.media:
        return prompt.token_ids, ()
    ids: list[int] = []
    runs: list[MediaRun] = []
    begin = 0
    for index, count in zip(prompt.media, num_tokens, strict=True):
        ids += prompt.token_ids[begin:index]
        runs.append(MediaRun(len(ids), count))
        ids += [prompt.token_ids[index]] * count
        begin = index + 1
    return (*ids, *prompt.token_ids[begin:]), tuple(runs)
