"""Small image files, and parts of messages that hold media."""

from __future__ import annotations

import base64
import io
import struct

from PIL import Image


def picture(width: int = 60, height: int = 40, kind: str = "PNG", colour: str = "red") -> bytes:
    """An encoded image file."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, kind)
    return file.getvalue()


def header_only(width: int, height: int) -> bytes:
    """A bitmap file that ends where its pixels would begin: its size can be read and nothing else."""
    return struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
    )


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """The file as a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def image_part(data: bytes) -> dict[str, object]:
    """An image_url part of a chat message."""
    return {"type": "image_url", "image_url": {"url": data_url(data)}}


def video_part(data: bytes) -> dict[str, object]:
    """A video_url part of a chat message."""
    return {"type": "video_url", "video_url": {"url": data_url(data, "video/mp4")}}
