"""Valid films whose packets are not their pictures, one for one."""

from __future__ import annotations

import io
import os

import av
import pytest

from services.common.media.video_file import VideoLimits, read_header
from services.families.kimi.family import MEDIA
from services.vision.video import preprocess_video, read_chunks
from tests.support.videos import ODD_FILMS

LIMITS = VideoLimits(pixels=1_000_000, frames=1_000, seconds=60.0)


def shown(data: bytes) -> tuple[int, float]:
    """How many pictures a decoder gives, and the seconds from the first one to the end of the last."""
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
        times = [frame.time for frame in frames]
    first, last = min(times), max(times)
    return len(frames), (last - first) * len(frames) / (len(frames) - 1)


def seconds_of(timestamp: str) -> float:
    hours, minutes, seconds = timestamp.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@pytest.mark.parametrize("name", ODD_FILMS)
def test_the_pictures_are_counted_and_timed_as_they_are_shown(name):
    make, num_pictures = ODD_FILMS[name]
    data = make()
    decoded, seconds = shown(data)
    assert decoded == num_pictures
    header = read_header(data, LIMITS)
    assert header.num_frames == num_pictures
    assert header.num_frames / header.fps == pytest.approx(seconds, rel=0.02)


@pytest.mark.parametrize("name", ODD_FILMS)
def test_every_chunk_has_its_pictures_and_a_time_within_the_film(name):
    data = ODD_FILMS[name][0]()
    _, seconds = shown(data)
    chunks = read_chunks(data, LIMITS, MEDIA)
    made = list(preprocess_video(data, chunks, LIMITS, lambda: None))
    assert [patches.grid for patches in made] == [chunk.grid for chunk in chunks]
    times = [seconds_of(chunk.timestamp) for chunk in chunks]
    assert times == sorted(times)
    assert times[-1] < seconds


def test_the_av1_encoder_does_not_change_how_later_tests_are_scheduled():
    ODD_FILMS["av1 mp4"][0]()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
