"""Images of a request: from their spelling to bytes, a content hash and the number of media pads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from PIL import Image, UnidentifiedImageError

from services.common.errors import InvalidRequest, UnsupportedValue
from services.families.media import MediaArithmetic

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


@dataclass(frozen=True)
class ImageSource:
    """An image as the caller gave it: the file's bytes or a `data:` URL; `param` is the field it came in."""

    source: bytes | str
    param: str


@dataclass(frozen=True)
class ImageLimits:
    """Most images in a request, bytes of one file, and pixels (width x height) of one image."""

    count: int
    num_bytes: int
    pixels: int


@dataclass(frozen=True)
class PromptImage:
    """An image whose header is read. `content_hash`: SHA-256 of the file; `num_tokens`: its media pads."""

    data: bytes
    content_hash: bytes
    num_tokens: int
    param: str


def load_images(
    sources: tuple[ImageSource, ...], limits: ImageLimits, arithmetic: MediaArithmetic
) -> tuple[PromptImage, ...]:
    """Reads each header; the vision worker alone decodes pixels. May take long: call it in a thread.

    Raises InvalidRequest or UnsupportedValue naming the image's field.
    """
    return tuple(_load(source, limits, arithmetic) for source in sources)


def _load(source: ImageSource, limits: ImageLimits, arithmetic: MediaArithmetic) -> PromptImage:
    data = source.source if isinstance(source.source, bytes) else decode_url(source.source, source.param)
    if len(data) > limits.num_bytes:
        raise InvalidRequest(
            f"the image has {len(data)} bytes; at most {limits.num_bytes} are taken", source.param
        )
    width, height = _size(data, source.param)
    if width * height > limits.pixels:
        raise InvalidRequest(
            f"the image has {width} x {height} pixels; at most {limits.pixels} are taken", source.param
        )
    return PromptImage(
        data=data,
        content_hash=hashlib.sha256(data).digest(),
        num_tokens=arithmetic.image_grid(width, height).num_tokens,
        param=source.param,
    )


def _size(data: bytes, param: str) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
    except UnidentifiedImageError as error:
        raise InvalidRequest(f"not an image: one of {', '.join(_FORMATS)} is expected", param) from error
    except Image.DecompressionBombError as error:
        raise InvalidRequest(f"the image is too large: {error}", param) from error
    # Each format's reader has its own ways to trip over a damaged header.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise InvalidRequest(f"the image's header is damaged: {error}", param) from error
    if width < 1 or height < 1:
        raise InvalidRequest("the image has no pixels", param)
    return width, height


def decode_url(url: str, param: str) -> bytes:
    """The bytes in a `data:` URL. Raises UnsupportedValue for other URLs, InvalidRequest for damaged ones."""
    if not url.startswith("data:"):
        raise UnsupportedValue("only URLs of data:, http: and https: are taken", param)
    head, comma, body = url.partition(",")
    if not comma:
        raise InvalidRequest("the data: URL has no comma", param)
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body) if "%" in body else body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"the data: URL is not valid base64: {error}", param) from error
