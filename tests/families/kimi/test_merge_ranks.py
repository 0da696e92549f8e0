from __future__ import annotations

import base64

import pytest

from services.common.errors import CheckpointError
from services.families.kimi.merge_ranks import read_ranks

BYTES = [bytes((byte,)) for byte in range(256)]


def write(path, tokens, ranks=None):
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_tokens_get_the_rank_of_their_line(tmp_path):
    ranks = read_ranks(write(tmp_path / "m", [*BYTES, b"ab"]))
    assert ranks[b"\x00"] == 0
    assert ranks[b"ab"] == 256
    assert len(ranks) == 257


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        read_ranks(tmp_path / "nowhere")


def test_all_bad_lines_are_listed(tmp_path):
    path = write(tmp_path / "m", BYTES)
    path.write_text(path.read_text() + "YWI= 999\n!!! 256\nYWI=\nYWI= 256\nYWI= 257\n")
    with pytest.raises(CheckpointError) as caught:
        read_ranks(path)
    lines = caught.value.message.splitlines()
    assert [line.split(", ")[1].split(":")[0] for line in lines] == [
        "line 257",
        "line 258",
        "line 259",
        "line 261",
    ]


def test_a_file_that_is_something_else_gives_few_findings(tmp_path):
    (tmp_path / "m").write_bytes(b"\x80garbage\n" * 1_000)
    with pytest.raises(CheckpointError) as caught:
        read_ranks(tmp_path / "m")
    assert len(caught.value.message.splitlines()) == 10


def test_missing_single_bytes_are_listed(tmp_path):
    with pytest.raises(CheckpointError, match=r"no token for the bytes 0x00, 0x01$"):
        read_ranks(write(tmp_path / "m", BYTES[2:]))
