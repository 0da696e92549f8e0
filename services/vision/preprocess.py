"""Converts an image file to the patches that the vision tower takes.

Sizes follow the model's family. For parity, pixels equal those of the published preprocessing
with Pillow: RGB without alpha, bicubic resizing, black padding at the right and bottom, scaled to [-1, 1].
For standard, the default, the image first becomes what viewers show; then the same is done.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from services.common.errors import InvalidRequest
from services.common.media.image_file import FORMATS, ImagePreprocess, shown_size, upright_turn
from services.families.media import ImageGrid, MediaArithmetic

PATCH_SIZE = 14
MAX_SIDE = 65_535
# Each format's reader has its own ways to trip over a damaged header.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError)


@dataclass(frozen=True)
class Patches:
    """One medium, cut into patches.

    `pixels`: float32 [grid_h * grid_w, 3, 14, 14], row-major over the grid, values in [-1, 1].
    """

    pixels: NDArray[np.float32]
    grid: ImageGrid


def preprocess_image(
    data: bytes, max_pixels: int, arithmetic: MediaArithmetic, preprocess: ImagePreprocess = "standard"
) -> Patches:
    """Decodes an image file (the first frame of an animation) and cuts it into patches.

    Raises InvalidRequest if `data` is not a complete image of a supported format or exceeds `max_pixels`.
    """
    image = decode_image(data, max_pixels, preprocess)
    grid = arithmetic.image_grid(image.width, image.height)
    return Patches(image_patches(image, grid), grid)


def count_patches(data: bytes, arithmetic: MediaArithmetic, preprocess: ImagePreprocess) -> int:
    """The patches that an image file becomes, by its header; 0 if that cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            grid = arithmetic.image_grid(*shown_size(image, preprocess))
    except (*_DAMAGED, Image.DecompressionBombError, InvalidRequest):
        return 0
    return grid.grid_h * grid.grid_w


def decode_image(data: bytes, max_pixels: int, preprocess: ImagePreprocess = "standard") -> Image.Image:
    """Returns the file's first frame in mode RGB. Raises as `preprocess_image` does."""
    if not data:
        raise InvalidRequest("the image is empty", "image")
    try:
        # Only the listed decoders: Pillow's others start external programs or are rarely fuzzed.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(image.width, image.height, max_pixels)
            return _as_shown(image) if preprocess == "standard" else image.convert("RGB")
    except InvalidRequest:
        raise
    except Image.DecompressionBombError as error:
        raise InvalidRequest(f"the image has more than {max_pixels} pixels", "image") from error
    except UnidentifiedImageError as error:
        raise InvalidRequest(f"not an image of a supported format ({', '.join(FORMATS)})", "image") from error
    except Exception as error:
        # Barrier: given hostile bytes, decoders raise OSError, SyntaxError, ValueError, struct.error,
        # zlib.error and others; each means that the file is broken. Their texts may hold bytes or addresses.
        raise InvalidRequest("the image is broken", "image") from error


def _as_shown(image: Image.Image) -> Image.Image:
    """The opened image in mode RGB as viewers show it."""
    turn = upright_turn(image)
    if image.mode.startswith("I"):
        image = _scaled_to_8_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    shown = image.convert("RGB")
    return shown if turn is None else shown.transpose(turn)


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey image (Pillow: mode I;16 or I) in mode L, or LA where one level is transparent."""
    levels = np.asarray(image).clip(0, 65_535).astype(np.uint16)
    scaled = ((np.arange(65_536) * 255 + 32_767) // 65_535).astype(np.uint8)
    grey = Image.fromarray(scaled[levels])
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    alpha = Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Checks an image's size before it is decoded. Raises InvalidRequest if it is empty or too large."""
    if width < 1 or height < 1:
        raise InvalidRequest("the image has no pixels", "image")
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise InvalidRequest(
            f"the image is too large: {width} x {height} pixels; the limit is {max_pixels} in total "
            f"and {MAX_SIDE} per side",
            "image",
        )


def image_patches(image: Image.Image, grid: ImageGrid) -> NDArray[np.float32]:
    """Resizes an RGB image to `grid`, pads it and cuts it: float32 [grid_h * grid_w, 3, 14, 14]."""
    if image.size != (grid.resized_w, grid.resized_h):
        image = image.resize((grid.resized_w, grid.resized_h), Image.Resampling.BICUBIC)
    padded = np.zeros((grid.padded_h, grid.padded_w, 3), dtype=np.uint8)
    padded[: grid.resized_h, : grid.resized_w] = np.asarray(image)
    cells = padded.reshape(grid.grid_h, PATCH_SIZE, grid.grid_w, PATCH_SIZE, 3).transpose(0, 2, 4, 1, 3)
    patches: NDArray[np.float32] = normalised_levels()[cells.reshape(-1, 3, PATCH_SIZE, PATCH_SIZE)]
    return patches


def normalised_levels() -> NDArray[np.float32]:
    """Returns float32 [256]: (x / 255 - 0.5) / 0.5 of each 8-bit level x, rounded after every operation."""
    half = np.float32(0.5)
    levels = np.arange(256, dtype=np.float32)
    return (levels / np.float32(255) - half) / half
