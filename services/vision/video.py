"""Converts a video file to the patches of its chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from services.common.errors import InvalidRequest
from services.common.media.video_file import VideoLimits, open_video, read_header
from services.families.media import MediaArithmetic, VideoChunk
from services.vision.preprocess import Patches, image_patches

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# A decoder may drop this many pictures; a file in which more are missing is damaged.
_MAY_BE_MISSING = 16


def read_chunks(data: bytes, limits: VideoLimits, arithmetic: MediaArithmetic) -> tuple[VideoChunk, ...]:
    """Returns the chunks of the file without decoding it. Raises InvalidRequest as `read_header` does."""
    header = read_header(data, limits)
    return arithmetic.video_chunks(header.width, header.height, header.num_frames, header.fps)


def preprocess_video(
    data: bytes, chunks: Sequence[VideoChunk], limits: VideoLimits, before_frame: Callable[[], None]
) -> Iterator[Patches]:
    """Decodes the file once and lazily yields the patches of each chunk.

    `pixels` of a chunk: float32 [grid_t * grid_h * grid_w, 3, 14, 14], frame-major. `before_frame` is called
    before every frame, sampled or not, and may stop the work by raising. The chunks come from a count of
    frames without decoding: if decoding gives a few frames less, the last one is repeated. Raises
    InvalidRequest if many are missing.
    """
    wanted = [index for chunk in chunks for index in chunk.frames]
    frames = _decode(data, wanted, limits, before_frame)
    for chunk in chunks:
        patches = [image_patches(next(frames), chunk.grid) for _ in chunk.frames]
        yield Patches(np.concatenate(patches), chunk.grid)


def _decode(
    data: bytes, wanted: Sequence[int], limits: VideoLimits, before_frame: Callable[[], None]
) -> Iterator[Image.Image]:
    """Yields one RGB image per index in `wanted`, which must be strictly ascending."""
    left = deque(wanted)
    shown, last = 0, None
    with open_video(data, limits) as (container, stream):
        for frame in container.decode(stream):
            before_frame()
            if shown == left[0]:
                yield _picture(frame)
                left.popleft()
                if not left:
                    return
            shown, last = shown + 1, frame
    promised = wanted[-1] + 1
    if last is None or promised - shown > min(promised // 2, max(_MAY_BE_MISSING, promised // 10)):
        raise InvalidRequest(f"the video is broken: its frame {left[0]} cannot be decoded")
    picture = _picture(last)
    yield from (picture for _ in left)


def _picture(frame: VideoFrame) -> Image.Image:
    return Image.fromarray(frame.to_ndarray(format="rgb24"))
