"""A group of ranks of which one cannot load its share."""

from __future__ import annotations

import shutil

import pytest

from services.engine.weights.headers import read_headers
from tests.support.stack import Stack
from tests.support.waiting import scaled

NAME = "language_model.model.layers.1.self_attn.q_b_proj.weight"
NAN = b"\xc0\x7f"
"""A bfloat16 in a file."""


def broken(nano_dir, directory, part: float):
    """A copy of the checkpoint with one NaN; `part`: where in the rows of a matrix that ranks share."""
    shutil.copytree(nano_dir, directory)
    header = read_headers(directory)[NAME]
    rows, columns = header.shape
    with (directory / header.shard).open("r+b") as file:
        file.seek(header.start + int(rows * part) * columns * len(NAN))
        file.write(NAN)
    return directory


@pytest.mark.parametrize(
    ("part", "status", "reason"), [(0.0, 2, f"values of {NAME} are NaN or Inf"), (0.5, 1, "rank 1 has ended")]
)
def test_the_worker_ends_with_the_reason_whichever_rank_finds_a_broken_weight(
    nano_dir, tmp_path, part, status, reason
):
    model = broken(nano_dir, tmp_path / "model", part)
    with Stack(model, tmp_path, {"decode": {"tp": 2, "kv_pages": 64}}) as stack:
        stack._spawn("decode")
        assert stack.processes["decode"].wait(scaled(40)) == status
        assert reason in stack.log("decode")
