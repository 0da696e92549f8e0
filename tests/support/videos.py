"""Small video files."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

import av
from PIL import Image

_MS = Fraction(1, 1000)
_VP8_SHOWN = 0x10


def film(
    num_frames: int = 13, width: int = 96, height: int = 64, fps: int = 10, kind: str = "mp4",
    codec: str = "mpeg4", seed: int = 0, options: Mapping[str, str] | None = None,
    times_ms: Sequence[int] | None = None,
) -> bytes:  # fmt: skip
    """A video file whose frames change colour evenly. `times_ms`: when each is shown, overriding `fps`."""
    file = io.BytesIO()
    with same_scheduling(), av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=fps, options=dict(options or {}))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if times_ms is not None:
            stream.codec_context.time_base = _MS
        for index in range(num_frames):
            picture = Image.new("RGB", (width, height), (index * 15 % 256, (seed * 40) % 256, 200))
            frame = av.VideoFrame.from_image(picture)
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], _MS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@contextlib.contextmanager
def same_scheduling() -> Iterator[None]:
    """Restores how the system schedules this thread: the SVT-AV1 encoder, run by root, makes it a real-time
    thread, which starves all others of its core, and whose child processes do the same."""
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def cut_at_second_key(data: bytes, kind: str) -> bytes:
    """The film from its second key frame on, packets copied as they are."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=kind) as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        keys, start = 0, None
        for packet in source.demux(video=0):
            keys += packet.is_keyframe
            if keys < 2 or packet.dts is None:
                continue
            start = packet.dts if start is None else start
            packet.pts, packet.dts = packet.pts - start, packet.dts - start
            packet.stream = copy
            target.mux(packet)
    return file.getvalue()


def with_hidden_references(data: bytes, every: int) -> bytes:
    """A WebM of VP8 with an invisible packet before each `every`th one, as a two-pass encoder makes it."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format="webm") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            if index % every == every - 1:
                content = bytearray(bytes(packet))
                content[0] &= ~_VP8_SHOWN
                hidden = av.Packet(bytes(content))
                hidden.pts = hidden.dts = packet.pts - 1
                hidden.time_base, hidden.stream = packet.time_base, copy
                target.mux(hidden)
            packet.stream = copy
            target.mux(packet)
    return file.getvalue()


def _open_groups(codec: str, kind: str) -> bytes:
    """150 pictures at 25 per second, after the few that lack what they refer to."""
    name = codec.removeprefix("lib")
    settings = "open-gop=1:keyint=50:min-keyint=50:bframes=4:b-adapt=0:scenecut=0"
    settings += ":log-level=none" if codec == "libx265" else ""
    whole = film(200, fps=25, codec=codec, kind="mp4", options={f"{name}-params": settings})
    return cut_at_second_key(whole, kind)


# By name: a film and the number of pictures that a player shows of it.
ODD_FILMS: Mapping[str, tuple[Callable[[], bytes], int]] = {
    "vp8 webm with hidden references": (
        lambda: with_hidden_references(film(200, fps=25, codec="libvpx", kind="webm"), 16), 200
    ),
    "hevc matroska cut at an open group": (lambda: _open_groups("libx265", "matroska"), 150),
    "h264 matroska cut at an open group": (lambda: _open_groups("libx264", "matroska"), 150),
    "h264 mov with an edit list": (lambda: _open_groups("libx264", "mov"), 150),
    "hevc mp4": (lambda: film(60, fps=25, codec="libx265", options={"x265-params": "log-level=none"}), 60),
    "mpeg4 avi with b-frames": (lambda: film(60, fps=25, kind="avi", options={"bf": "2"}), 60),
    "mpeg4 matroska cut before b-frames": (
        lambda: cut_at_second_key(film(60, fps=25, options={"bf": "2", "g": "20"}), "matroska"), 57
    ),
    "vp9 webm with hidden references": (
        lambda: film(
            60, fps=25, codec="libvpx-vp9", kind="webm", options={"lag-in-frames": "25", "auto-alt-ref": "1"}
        ), 60
    ),
    "av1 mp4": (lambda: film(60, fps=25, codec="libsvtav1", options={"preset": "12"}), 60),
    "mjpeg avi": (lambda: film(60, fps=25, codec="mjpeg", kind="avi"), 60),
    "h264 mp4 of a varying rate": (
        lambda: film(60, codec="libx264", times_ms=[i * 40 + i // 20 * 1000 for i in range(60)]), 60
    ),
    "h264 matroska faster than it says": (
        lambda: film(60, codec="libx264", kind="matroska", times_ms=[i * 33 for i in range(60)]), 60
    ),
    "h264 matroska slower than it says": (
        lambda: film(12, codec="libx264", kind="matroska", times_ms=[i * 500 for i in range(12)]), 12
    ),
}  # fmt: skip
