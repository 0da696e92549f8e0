from __future__ import annotations

import contextlib
import random

import av
import pytest

from services.common.errors import InvalidRequest
from services.common.media.video_file import VideoHeader, VideoLimits, read_header
from tests.support.videos import film

LIMITS = VideoLimits(pixels=1_000_000, frames=1_000, seconds=60.0)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("mp4", "mpeg4"),
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("matroska", "libx264"),
        ("webm", "libvpx"),
        ("webm", "libvpx-vp9"),
        ("avi", "mjpeg"),
    ],
)
def test_each_format_gives_its_size_frames_and_rate(kind, codec):
    assert read_header(film(kind=kind, codec=codec), LIMITS) == VideoHeader(96, 64, 13, 10.0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain text",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\0\0\0\x18ftypmp42" + bytes(100),
        b"\x1aE\xdf\xa3" + bytes(100),
        b"RIFF\0\0\0\0AVI " + bytes(100),
        film()[:200],
    ],
    ids=["empty", "text", "playlist", "concat", "mp4", "matroska", "avi", "cut off"],
)
def test_what_is_no_video_is_refused(data):
    with pytest.raises(InvalidRequest):
        read_header(data, LIMITS)


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "mpeg4"), ("mp4", "libx264"), ("avi", "mjpeg")])
def test_a_video_of_too_many_pixels_is_refused_with_the_limit(kind, codec):
    with pytest.raises(InvalidRequest, match=r"the limit (is|of) 6143$"):
        read_header(film(kind=kind, codec=codec), VideoLimits(96 * 64 - 1, 13, 1.3))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(96 * 64 - 1, 13, 1.3), "pixels"),
        (VideoLimits(96 * 64, 12, 1.3), "too long"),
        (VideoLimits(96 * 64, 13, 1.2), "too long"),
    ],
)
def test_pixels_frames_and_seconds_are_bounded(limits, message):
    assert read_header(film(), VideoLimits(96 * 64, 13, 1.3)).num_frames == 13
    with pytest.raises(InvalidRequest, match=message):
        read_header(film(), limits)


def test_seconds_are_those_for_which_the_pictures_last_whatever_the_file_says():
    data = film(kind="matroska", codec="libx264", times_ms=[index * 1000 for index in range(13)])
    assert read_header(data, VideoLimits(96 * 64, 13, 13.0)) == VideoHeader(96, 64, 13, 1.0)
    with pytest.raises(InvalidRequest, match="too long"):
        read_header(data, VideoLimits(96 * 64, 13, 12.9))


def test_damaged_files_are_read_or_refused_and_nothing_else():
    for seed in range(60):
        draw = random.Random(seed)
        data = bytearray(film(kind="mp4" if seed % 2 else "matroska"))
        for _ in range(8):
            data[draw.randrange(len(data))] = draw.randrange(256)
        with contextlib.suppress(InvalidRequest):
            assert read_header(bytes(data), LIMITS).num_frames >= 1


@pytest.mark.parametrize("error", [av.InvalidDataError, ValueError])
def test_no_text_of_the_library_is_handed_on(error, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise error(1, "at 0x7f01")

    data = film()
    monkeypatch.setattr(av, "open", broken)
    with pytest.raises(InvalidRequest) as caught:
        read_header(data, LIMITS)
    assert "0x7f01" not in caught.value.message
