"""Video arithmetic of the published preprocessing: which frames are looked at, in which chunks, from when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from services.common.errors import InvalidRequest
from services.families.kimi.media import video_frame_grid
from services.families.media import ImageGrid, VideoChunk

SAMPLE_FPS = 2.0
CHUNK_FRAMES = 4
_DAY_S = 86_400


def sample_frames(num_frames: int, fps: float) -> tuple[int, ...]:
    """Indices of the frames to look at: two a second, evenly spread, the first and the last among them.

    Halves are rounded to even. InvalidRequest for less than one frame or a rate that is no positive number.
    """
    if num_frames < 1:
        raise InvalidRequest("the video has no frames")
    if not (math.isfinite(fps) and fps > 0):
        raise InvalidRequest(f"a video of {fps} frames a second has no time")
    count = max(1, round(num_frames * min(SAMPLE_FPS, fps) / fps))
    if count == 1:
        return (0,)
    step = (num_frames - 1) / (count - 1)
    return (*(round(index * step) for index in range(count - 1)), num_frames - 1)


def video_chunks(width: int, height: int, num_frames: int, fps: float) -> tuple[VideoChunk, ...]:
    """The chunks of a video of `width` x `height` pixels. Raises InvalidRequest as `sample_frames` does."""
    grid = video_frame_grid(width, height)
    sampled = sample_frames(num_frames, fps)
    starts = range(0, len(sampled), CHUNK_FRAMES)
    return tuple(_chunk(sampled[start : start + CHUNK_FRAMES], grid, fps) for start in starts)


def _chunk(frames: Sequence[int], grid: ImageGrid, fps: float) -> VideoChunk:
    return VideoChunk(tuple(frames), timestamp(frames[0] / fps), replace(grid, grid_t=len(frames)))


def timestamp(seconds: float) -> str:
    """`HH:MM:SS.mmm`, as on a clock: a day later it begins anew. Milliseconds are cut off, not rounded."""
    clock = datetime.fromtimestamp(seconds % _DAY_S, tz=UTC)
    return f"{clock:%H:%M:%S}.{int(seconds % 1 * 1000):03d}"
