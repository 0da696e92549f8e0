"""A picture in the form that the vision tower takes, small enough to send between processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.families.kimi.family import MEDIA
from services.families.kimi.media import MERGE_SIZE
from services.vision.preprocess import normalised_levels, preprocess_image

MAX_PIXELS = 1 << 22


@dataclass(frozen=True)
class Picture:
    """`levels`: uint8 `[rows * columns, 3, 14, 14]`, row-major over the grid of patches."""

    levels: Tensor
    rows: int
    columns: int

    @property
    def num_tokens(self) -> int:
        """Number of media pads in the prompt."""
        return self.rows * self.columns // MERGE_SIZE**2


def pixels_of(pictures: Sequence[Picture], device: torch.device) -> Tensor:
    """float32 `[patches of all pictures, 3 * 14 * 14]` in [-1, 1], the values that the vision service
    computes.
    """
    levels = torch.cat([picture.levels for picture in pictures]).to(device)
    table = torch.from_numpy(normalised_levels()).to(device)
    return table[levels.flatten(1).long()]


def read_picture(data: bytes) -> Picture:
    """Decodes a picture with the preprocessing of the vision service. InvalidRequest if `data` is not a
    picture.
    """
    patches = preprocess_image(data, MAX_PIXELS, MEDIA)
    # Converts back to the 8-bit levels, which take a quarter of the bytes without loss.
    levels = np.rint((patches.pixels + np.float32(1)) * np.float32(127.5)).astype(np.uint8)
    return Picture(torch.from_numpy(levels), patches.grid.grid_h, patches.grid.grid_w)
