from __future__ import annotations

import json

import pytest

from services.common.errors import InvalidRequest
from services.families.kimi.media import image_grid, video_frame_grid


def test_every_golden_size_gives_its_grid(shared_dir, fidelity):
    lines = (shared_dir / "data" / "golden" / "image_preprocess.jsonl").read_text().splitlines()
    rules = {"image_size": image_grid, "video_frame_size": video_frame_grid}
    vectors = [vector for vector in map(json.loads, lines) if vector["kind"] in rules]
    assert vectors
    for vector in vectors:
        expected = vector["expected"]
        grid = rules[vector["kind"]](vector["input"]["width"], vector["input"]["height"])
        assert [grid.resized_w, grid.resized_h] == expected["resized"], vector["id"]
        assert [grid.padded_w, grid.padded_h] == expected["padded"], vector["id"]
        rows_columns = expected.get("grid_hw") or expected["grid_thw"][1:]
        assert [grid.grid_h, grid.grid_w] == rows_columns, vector["id"]
        assert (grid.grid_t, grid.num_tokens) == (1, expected["num_tokens"]), vector["id"]
    what = "sizes, padding, grids and tokens of images and video frames"
    fidelity.equal("Image sizes and tokens", what, "golden vectors", len(vectors))


@pytest.mark.parametrize(
    ("width", "height", "num_tokens"),
    [
        (1, 1, 1),
        (28, 28, 1),
        (29, 28, 2),
        (224, 224, 64),
        (600, 400, 330),
        (1920, 1080, 2691),
        (10_000, 100, 768),
    ],
)
def test_an_image_takes_a_pad_per_two_by_two_patches(width, height, num_tokens):
    assert image_grid(width, height).num_tokens == num_tokens


def test_padding_may_exceed_the_budget():
    grid = image_grid(3_000, 3_000)
    assert (grid.resized_w, grid.padded_w, grid.num_tokens) == (1_794, 1_820, 4_225)


def test_a_small_image_is_never_enlarged():
    grid = image_grid(30, 20)
    assert (grid.resized_w, grid.resized_h, grid.padded_w, grid.padded_h) == (30, 20, 56, 28)


def test_a_video_frame_has_a_quarter_of_the_budget():
    assert video_frame_grid(1_920, 1_080).num_tokens == 1_032


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-1, 1)])
def test_an_image_without_pixels_is_refused(width, height):
    with pytest.raises(InvalidRequest):
        image_grid(width, height)
