"""What an image file's header says, for gateway and vision workers: both must count the same pixels."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

# standard: pixels as a viewer shows them: turned as the EXIF orientation says, transparency on white, 16-bit
# grey scaled to 8 bits. parity: as the published preprocessing has them, which does none of this.
ImagePreprocess: TypeAlias = Literal["standard", "parity"]

_ORIENTATION_TAG = 0x0112
# EXIF orientation -> what turns the stored pixels upright; 1 is upright already.
_TURNS: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
_SWAPS_SIDES = frozenset({5, 6, 7, 8})


def upright_turn(image: Image.Image) -> Image.Transpose | None:
    """What turns an opened image upright, from its EXIF tags; None: nothing, or no readable tag.

    Call it before the pixels are loaded. Tags behind the pixels (a PNG may have them there) do not count.
    """
    return _TURNS.get(_orientation(image))


def shown_size(image: Image.Image, preprocess: ImagePreprocess) -> tuple[int, int]:
    """Width and height in pixels of an opened image as the model will see it, before resizing."""
    width, height = image.size
    if preprocess == "standard" and _orientation(image) in _SWAPS_SIDES:
        return height, width
    return width, height


def image_hash(data: bytes, preprocess: ImagePreprocess) -> bytes:
    """The 32-byte name of an image's embedding: SHA-256 of the file.

    For parity: SHA-256 of the file's SHA-256 followed by `parity`, because the embedding may be another one.
    """
    digest = hashlib.sha256(data).digest()
    return digest if preprocess == "standard" else hashlib.sha256(digest + b"parity").digest()


def _orientation(image: Image.Image) -> int:
    # Not image.getexif(): for a PNG without tags it decodes the pixels.
    data = image.info.get("exif")
    if not isinstance(data, bytes):
        return 1
    tags = Image.Exif()
    try:
        tags.load(data)
        value = tags.get(_ORIENTATION_TAG)
    # What Pillow raises for damaged tags. Such an image is shown as it is stored, as viewers do.
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError, struct.error, EOFError):
        return 1
    return value if isinstance(value, int) else 1
