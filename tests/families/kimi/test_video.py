from __future__ import annotations

import hashlib
import json

import pytest

from services.common.errors import InvalidRequest
from services.families.kimi.video import sample_frames, timestamp, video_chunks
from services.families.media import VideoChunk


def test_every_golden_video_gives_its_frames_chunks_and_timestamps(shared_dir, fidelity):
    lines = (shared_dir / "data" / "golden" / "image_preprocess.jsonl").read_text().splitlines()
    vectors = [vector for vector in map(json.loads, lines) if vector["kind"] == "video"]
    assert vectors
    for vector in vectors:
        given, expected = vector["input"], vector["expected"]
        chunks = video_chunks(given["width"], given["height"], given["num_frames"], given["fps"])
        check_frames(vector["id"], [index for chunk in chunks for index in chunk.frames], expected)
        check_chunks(vector["id"], chunks, expected)
        prompt = "".join(map(pads, chunks))
        if "prompt" in expected:
            assert prompt == expected["prompt"], vector["id"]
        else:
            assert hashlib.sha256(prompt.encode()).hexdigest() == expected["prompt_sha256"], vector["id"]
    part = "Video frames, chunks and timestamps"
    fidelity.equal(part, "frames, chunks, timestamps, tokens, prompt", "golden vectors", len(vectors))


def check_frames(name: str, frames: list[int], expected) -> None:
    assert len(frames) == expected["num_sampled"], name
    if "sampled_indices" in expected:
        assert frames == expected["sampled_indices"], name
    else:
        joined = ",".join(map(str, frames))
        assert hashlib.sha256(joined.encode()).hexdigest() == expected["sampled_indices_sha256"], name


def check_chunks(name: str, chunks: tuple[VideoChunk, ...], expected) -> None:
    assert len(chunks) == expected["num_chunks"], name
    assert sum(chunk.grid.num_tokens for chunk in chunks) == expected["total_tokens"], name
    plain = list(map(as_vector, chunks))
    if "chunks" in expected:
        assert plain == expected["chunks"], name
    else:
        assert plain[:4] == expected["chunks_first"], name
        assert plain[-4:] == expected["chunks_last"], name
    for chunk in chunks:
        assert [chunk.grid.resized_w, chunk.grid.resized_h] == expected["resized"], name
        assert [chunk.grid.padded_w, chunk.grid.padded_h] == expected["padded"], name


def as_vector(chunk: VideoChunk) -> dict[str, object]:
    grid = chunk.grid
    return {
        "frames": list(chunk.frames),
        "timestamp": chunk.timestamp,
        "grid_thw": [grid.grid_t, grid.grid_h, grid.grid_w],
        "num_tokens": grid.num_tokens,
    }


def pads(chunk: VideoChunk) -> str:
    return f"{chunk.timestamp}<|media_begin|>video<|media_content|><|media_pad|><|media_end|>"


@pytest.mark.parametrize(
    ("num_frames", "fps", "frames"),
    [
        (1, 24.0, (0,)),
        (2, 25.0, (0,)),
        (10, 1.0, tuple(range(10))),
        (5, 4.0, (0, 4)),  # 2.5 frames: two
        (7, 4.0, (0, 2, 4, 6)),  # 3.5 frames: four
        (6, 4.0, (0, 2, 5)),  # the middle is 2.5: frame 2
        (61, 23.976, (0, 15, 30, 45, 60)),
    ],
)
def test_two_frames_a_second_are_sampled_and_halves_go_to_even(num_frames, fps, frames):
    assert sample_frames(num_frames, fps) == frames


def test_four_sampled_frames_make_a_chunk_and_the_last_may_be_shorter():
    chunks = video_chunks(640, 360, 33, 10.0)
    assert [chunk.frames for chunk in chunks] == [(0, 5, 11, 16), (21, 27, 32)]
    assert [chunk.timestamp for chunk in chunks] == ["00:00:00.000", "00:00:02.100"]
    assert [chunk.grid.grid_t for chunk in chunks] == [4, 3]
    assert [chunk.grid.num_tokens for chunk in chunks] == [299, 299]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "00:00:00.000"),
        (2.3, "00:00:02.299"),  # the double below 2.3
        (59.9999, "00:00:59.999"),
        (3_723.5, "01:02:03.500"),
        (86_400.25, "00:00:00.250"),
        (1e12, "01:46:40.000"),
    ],
)
def test_timestamps_cut_milliseconds_and_wrap_after_a_day(seconds, text):
    assert timestamp(seconds) == text


@pytest.mark.parametrize(
    ("num_frames", "fps"), [(0, 2.0), (-1, 2.0), (4, 0.0), (4, -1.0), (4, float("nan")), (4, float("inf"))]
)
def test_a_video_without_frames_or_time_is_refused(num_frames, fps):
    with pytest.raises(InvalidRequest):
        sample_frames(num_frames, fps)
