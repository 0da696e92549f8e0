"""Images of a request: from their spelling to bytes, a content hash and the number of media pads."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from services.common.errors import InvalidRequest
from services.common.media.image_file import FORMATS, ImagePreprocess, image_hash, shown_size
from services.families.media import MediaArithmetic
from services.gateway.media.data_url import decode_url


@dataclass(frozen=True)
class ImageSource:
    """An image as the caller gave it: the file's bytes or a `data:` URL; `param` is the field it came in."""

    source: bytes | str
    param: str


@dataclass(frozen=True)
class ImageLimits:
    """Most images in a request, bytes of one file, and pixels (width x height) of one image.

    `preprocess`: how the vision worker reads pixels, which decides which side is the width.
    """

    count: int
    num_bytes: int
    pixels: int
    preprocess: ImagePreprocess = "standard"


@dataclass(frozen=True)
class PromptImage:
    """An image whose header is read. `content_hash`: see `image_hash`; `num_tokens`: its media pads."""

    data: bytes
    content_hash: bytes
    num_tokens: int
    param: str
    preprocess: ImagePreprocess = "standard"


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
    width, height = _size(data, source.param, limits.preprocess)
    if width * height > limits.pixels:
        raise InvalidRequest(
            f"the image has {width} x {height} pixels; at most {limits.pixels} are taken", source.param
        )
    return PromptImage(
        data=data,
        content_hash=image_hash(data, limits.preprocess),
        num_tokens=arithmetic.image_grid(width, height).num_tokens,
        param=source.param,
        preprocess=limits.preprocess,
    )


def _size(data: bytes, param: str, preprocess: ImagePreprocess) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = shown_size(image, preprocess)
    except UnidentifiedImageError as error:
        raise InvalidRequest(f"not an image: one of {', '.join(FORMATS)} is expected", param) from error
    except Image.DecompressionBombError as error:
        raise InvalidRequest("the image has too many pixels", param) from error
    # Each format's reader has its own ways to trip over a damaged header. Their texts may hold bytes of the
    # file, or addresses.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise InvalidRequest("the image's header is damaged", param) from error
    if width < 1 or height < 1:
        raise InvalidRequest("the image has no pixels", param)
    return width, height
