"""Small video files."""

from __future__ import annotations

import io

import av
from PIL import Image


def film(
    num_frames: int = 13, width: int = 96, height: int = 64, fps: int = 10, kind: str = "mp4",
    codec: str = "mpeg4", seed: int = 0,
) -> bytes:  # fmt: skip
    """A video file whose frames change colour evenly."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(num_frames):
            picture = Image.new("RGB", (width, height), (index * 15 % 256, (seed * 40) % 256, 200))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return file.getvalue()
