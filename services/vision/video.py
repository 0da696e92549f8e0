"""A video file to the patches of its chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from services.common.errors import InvalidRequest
from services.common.kimi.video import VideoChunk, video_chunks
from services.common.video_file import VideoLimits, open_video, read_header
from services.vision.preprocess import Patches, image_patches


def read_chunks(data: bytes, limits: VideoLimits) -> tuple[VideoChunk, ...]:
    """What the file becomes, before it is decoded. Raises InvalidRequest as `read_header` does."""
    header = read_header(data, limits)
    return video_chunks(header.width, header.height, header.num_frames, header.fps)


def preprocess_video(
    data: bytes, chunks: Sequence[VideoChunk], limits: VideoLimits, before_frame: Callable[[], None]
) -> Iterator[Patches]:
    """Decodes the file once from its beginning and cuts up chunk after chunk, as each is asked for.

    `pixels` of a chunk: float32 [grid_t * grid_h * grid_w, 3, 14, 14], frame-major. `before_frame` is called
    before every frame, sampled or not, and may end the work by raising. InvalidRequest when a frame that the
    container promised cannot be decoded.
    """
    sampled = (index for chunk in chunks for index in chunk.frames)
    frames = _decode(data, sampled, limits, before_frame)
    for chunk in chunks:
        patches = [image_patches(next(frames), chunk.grid) for _ in chunk.frames]
        yield Patches(np.concatenate(patches), chunk.grid)


def _decode(
    data: bytes, wanted: Iterator[int], limits: VideoLimits, before_frame: Callable[[], None]
) -> Iterator[Image.Image]:
    """The wanted frames in mode RGB, as many as asked for; indices ascend and none comes twice."""
    index = next(wanted, None)
    with open_video(data, limits) as (container, stream):
        for position, frame in enumerate(container.decode(stream)):
            before_frame()
            if position == index:
                yield Image.fromarray(frame.to_ndarray(format="rgb24"))
                index = next(wanted, None)
            if index is None:
                return
    raise InvalidRequest(f"the video is broken: its frame {index} cannot be decoded")
