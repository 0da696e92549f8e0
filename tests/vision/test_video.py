from __future__ import annotations

import contextlib
import io
import random

import av
import numpy as np
import pytest

from services.common.errors import Cancelled, InvalidRequest
from services.common.media.video_file import VideoLimits
from services.families.kimi.family import MEDIA
from services.families.kimi.video import video_chunks
from services.vision.preprocess import image_patches
from services.vision.video import preprocess_video, read_chunks
from tests.support.videos import film

LIMITS = VideoLimits(pixels=1_000_000, frames=1_000, seconds=60.0)


def go_on() -> None:
    pass


def test_a_chunk_is_the_patches_of_its_sampled_frames_one_after_the_other():
    data = film(num_frames=33)
    chunks = read_chunks(data, LIMITS, MEDIA)
    assert chunks == video_chunks(96, 64, 33, 10.0)
    with av.open(io.BytesIO(data)) as container:
        pictures = [frame.to_image() for frame in container.decode(video=0)]
    made = list(preprocess_video(data, chunks, LIMITS, go_on))
    assert [patches.grid.grid_t for patches in made] == [4, 3]
    for chunk, patches in zip(chunks, made, strict=True):
        expected = [image_patches(pictures[index], chunk.grid) for index in chunk.frames]
        assert np.array_equal(patches.pixels, np.concatenate(expected))
    assert not np.array_equal(made[0].pixels[:24], made[0].pixels[24:48])


def test_frames_beyond_the_budget_are_made_smaller():
    data = film(num_frames=1, width=1280, height=720)
    (patches,) = preprocess_video(data, read_chunks(data, LIMITS, MEDIA), LIMITS, go_on)
    assert (patches.grid.resized_w, patches.grid.num_tokens) == (1202, 1075)


def test_decoding_can_be_ended_between_two_frames():
    seen = []

    def stop_at_third() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise Cancelled("enough")

    data = film(num_frames=33)
    with pytest.raises(Cancelled):
        list(preprocess_video(data, read_chunks(data, LIMITS, MEDIA), LIMITS, stop_at_third))
    assert len(seen) == 3


def test_a_promised_frame_that_is_not_there_is_an_error():
    data = film(num_frames=10)
    with pytest.raises(InvalidRequest, match="frame 48 cannot be decoded"):
        list(preprocess_video(data, video_chunks(96, 64, 50, 2.0)[12:], LIMITS, go_on))


def test_the_last_frame_stands_for_a_few_that_are_not_shown():
    data = film(num_frames=13)
    with av.open(io.BytesIO(data)) as container:
        pictures = [frame.to_image() for frame in container.decode(video=0)]
    chunks = video_chunks(96, 64, 17, 4.0)
    *_, made = preprocess_video(data, chunks, LIMITS, go_on)
    assert chunks[-1].frames == (9, 11, 14, 16)
    expected = [image_patches(pictures[index], chunks[-1].grid) for index in (9, 11, 12, 12)]
    assert np.array_equal(made.pixels, np.concatenate(expected))


def test_a_film_of_which_half_is_missing_is_an_error():
    data = film(num_frames=8)
    with pytest.raises(InvalidRequest, match="frame 8 cannot be decoded"):
        list(preprocess_video(data, video_chunks(96, 64, 17, 2.0), LIMITS, go_on))


def test_damaged_files_are_decoded_or_refused_and_nothing_else():
    for seed in range(40):
        draw = random.Random(seed)
        data = bytearray(film(codec="libx264" if seed % 2 else "mpeg4"))
        for _ in range(8):
            data[draw.randrange(len(data))] = draw.randrange(256)
        with contextlib.suppress(InvalidRequest):
            chunks = read_chunks(bytes(data), LIMITS, MEDIA)
            assert len(list(preprocess_video(bytes(data), chunks, LIMITS, go_on))) == len(chunks)
