"""Image arithmetic of the published preprocessing: sizes, the patch grid, the number of media pads."""

from __future__ import annotations

import math

from services.common.errors import InvalidRequest
from services.families.media import ImageGrid

PATCH_SIZE = 14
MERGE_SIZE = 2
IMAGE_PATCHES = 16_384
VIDEO_FRAME_PATCHES = 4_096
SIDE_PATCHES = 512


def image_grid(width: int, height: int) -> ImageGrid:
    """The grid of a still image of so many pixels. Raises InvalidRequest for a side below 1."""
    return _grid(width, height, IMAGE_PATCHES)


def video_frame_grid(width: int, height: int) -> ImageGrid:
    """The grid of one frame of a video; `grid_t` is 1. Raises InvalidRequest for a side below 1."""
    return _grid(width, height, VIDEO_FRAME_PATCHES)


def _grid(width: int, height: int, patches: int) -> ImageGrid:
    if width < 1 or height < 1:
        raise InvalidRequest(f"an image of {width} x {height} pixels is empty")
    scale = _scale(width, height, patches)
    resized_w, resized_h = (
        min(max(1, int(side * scale)), SIDE_PATCHES * PATCH_SIZE) for side in (width, height)
    )
    unit = PATCH_SIZE * MERGE_SIZE
    padded_w, padded_h = (math.ceil(side / unit) * unit for side in (resized_w, resized_h))
    return ImageGrid(
        resized_w=resized_w,
        resized_h=resized_h,
        padded_w=padded_w,
        padded_h=padded_h,
        grid_t=1,
        grid_h=padded_h // PATCH_SIZE,
        grid_w=padded_w // PATCH_SIZE,
        num_tokens=(padded_h // unit) * (padded_w // unit),
    )


def _scale(width: int, height: int, patches: int) -> float:
    """Never above 1. The budget counts whole patches before padding, so padding may exceed it."""
    whole = max(1, width // PATCH_SIZE) * max(1, height // PATCH_SIZE)
    side = SIDE_PATCHES * PATCH_SIZE
    return min(1.0, math.sqrt(patches / whole), side / width, side / height)
