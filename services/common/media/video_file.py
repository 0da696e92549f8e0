"""Opens video files with PyAV and reads their headers without decoding, for gateway and vision workers.

PyAV comes with the extra `video`, which an installation may leave out.

The file's first bytes select the demuxer, which may open nothing else: FFmpeg's own detection could select a
playlist, which names other files and hosts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.media.video_pictures import PictureCount

try:
    import av
except ModuleNotFoundError:  # without the extra `video`
    av = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg")


@dataclass(frozen=True)
class VideoLimits:
    """Upper limits: pixels (width x height) per frame, frames in the file, and seconds."""

    pixels: int
    frames: int
    seconds: float


@dataclass(frozen=True)
class VideoHeader:
    """Frame size in pixels, frames in the file (not only sampled ones), average frames per second.

    Rotation tags are ignored.
    """

    width: int
    height: int
    num_frames: int
    fps: float


def check_offered(server: str, param: str) -> None:
    """Raises UnsupportedValue naming the field `param` if PyAV is not installed.

    `server`: what this process is, for the message.
    """
    if av is None:
        raise UnsupportedValue(f"{server} reads no videos: it lacks the extra perigee[video]", param)


def read_header(data: bytes, limits: VideoLimits) -> VideoHeader:
    """Counts frames from the packets of the first video track, without decoding: headers may be wrong.

    Raises InvalidRequest if the file is not a video of a supported format or exceeds `limits`.
    """
    with open_video(data, limits) as (container, stream):
        context = stream.codec_context
        counted = PictureCount(context.name, stream.time_base or Fraction(1, 1000))
        for packet in container.demux(stream):
            counted.add(packet)
            if counted.num_pictures > limits.frames:
                raise _too_long(limits)
        num_frames = counted.num_pictures
        if not num_frames:
            raise InvalidRequest("the video has no frames")
        fps = _frame_rate(stream, num_frames, counted.seconds)
        if num_frames > limits.seconds * fps:
            raise _too_long(limits)
        return VideoHeader(context.width, context.height, num_frames, fps)


def _frame_rate(stream: VideoStream, num_frames: int, seconds: float) -> float:
    """Returns the file's stated rate, or the measured one if they differ by more than a frame in total."""
    stated = float(stream.average_rate or stream.guessed_rate or 0)
    if seconds and not (stated > 0 and abs(num_frames - seconds * stated) <= 1):
        return num_frames / seconds
    if stated <= 0:
        raise InvalidRequest("the video has no frame rate")
    return stated


def _too_long(limits: VideoLimits) -> InvalidRequest:
    return InvalidRequest(
        f"the video is too long: the limits are {limits.seconds:g} seconds and {limits.frames} frames"
    )


@contextmanager
def open_video(data: bytes, limits: VideoLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens the file and its first video track. FFmpeg's errors about the file become InvalidRequest."""
    options = {
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(_CODECS),
        "max_pixels": str(limits.pixels),
    }
    try:
        with av.open(io.BytesIO(data), "r", format=_format(data), options=options) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise InvalidRequest("the file has no video track")
            _check(stream, limits)
            yield container, stream
    except (av.FFmpegError, ValueError, OverflowError) as error:
        # No text of the library: it may hold bytes of the file, or addresses.
        raise InvalidRequest("the video is broken or has an unsupported format") from error


def _format(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return "mp4"
    if data[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    raise InvalidRequest("not a video: MP4, QuickTime, WebM, Matroska or AVI is expected")


def _check(stream: VideoStream, limits: VideoLimits) -> None:
    context = stream.codec_context
    # Despite the annotation, None for a codec that this build of FFmpeg cannot decode.
    name = getattr(context, "name", None)
    if name not in _CODECS:
        raise InvalidRequest(f"the video's codec {name} is not one of {', '.join(_CODECS)}")
    if context.width < 1 or context.height < 1:
        # Some readers of FFmpeg leave these at 0 where `max_pixels` is exceeded.
        raise InvalidRequest(f"the video has no pixels, or more than the limit of {limits.pixels}")
    if context.width * context.height > limits.pixels:
        raise InvalidRequest(
            f"the video has {context.width} x {context.height} pixels; the limit is {limits.pixels}"
        )
    # More threads would decode faster, but on cores that the model and other requests use.
    context.thread_count = 1
    context.options = {"max_pixels": str(limits.pixels)}
