"""What images and videos become in a prompt, and a family's arithmetic of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ImageGrid:
    """What an image becomes.

    Pixels: `resized_*` (bicubic) and `padded_*` (at the right and bottom); patches: `grid_*`; `num_tokens`:
    media pads of the prompt, one per 2 x 2 patches.
    """

    resized_w: int
    resized_h: int
    padded_w: int
    padded_h: int
    grid_t: int
    grid_h: int
    grid_w: int
    num_tokens: int


@dataclass(frozen=True)
class VideoChunk:
    """Up to four sampled frames that become one medium of a prompt.

    `frames`: indices in the video, ascending; `timestamp`: when the first is shown, `HH:MM:SS.mmm`; `grid`:
    of the chunk, `grid_t` being the number of frames. Time is averaged away: it does not change the tokens.
    """

    frames: tuple[int, ...]
    timestamp: str
    grid: ImageGrid


@dataclass(frozen=True)
class MediaArithmetic:
    """How a family sizes media; both raise InvalidRequest for what has no size.

    `image_grid`: of a still image of so many pixels, width and height. `video_chunks`: of a video of so many
    pixels, width and height, frames, and frames a second.
    """

    image_grid: Callable[[int, int], ImageGrid]
    video_chunks: Callable[[int, int, int, float], tuple[VideoChunk, ...]]


def chunk_hash(content_hash: bytes, index: int) -> bytes:
    """32 bytes that name a chunk: of the SHA-256 of the video's file and the chunk's index in it."""
    return hashlib.sha256(content_hash + index.to_bytes(4, "little")).digest()
