"""Media among the tokens of a prompt."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import InvalidRequest
from services.engine.media import Medium, embeds_within, media_from_proto, media_spans, media_within

FIRST = Medium(b"a" * 32, 10, 20, "v:1", "i")
SECOND = Medium(b"b" * 32, 30, 5, "v:1", "i")


def test_media_survive_the_wire():
    assert media_from_proto([FIRST.to_proto(), SECOND.to_proto()], 35) == (FIRST, SECOND)


@pytest.mark.parametrize(
    ("media", "num_tokens"),
    [((SECOND, FIRST), 40), ((FIRST, Medium(b"c" * 32, 29, 2, "", "")), 40), ((FIRST, SECOND), 34)],
    ids=["out of order", "overlapping", "outside"],
)
def test_media_that_overlap_or_leave_the_prompt_are_refused_by_name(media, num_tokens):
    with pytest.raises(InvalidRequest) as caught:
        media_from_proto([medium.to_proto() for medium in media], num_tokens)
    assert caught.value.param.startswith("media[")


def test_only_media_with_a_pad_in_the_range_are_wanted():
    assert media_within((FIRST, SECOND), 0, 10) == ()
    assert media_within((FIRST, SECOND), 29, 31) == (FIRST, SECOND)
    assert media_within((FIRST, SECOND), 30, 31) == (SECOND,)


def test_rows_of_an_embedding_follow_the_chunk_borders():
    rows = {0: torch.arange(20).float()[:, None], 1: torch.arange(100, 105).float()[:, None]}
    pieces = embeds_within((FIRST, SECOND), rows, 25, 33)
    assert [(offset, values[:, 0].tolist()) for offset, values in pieces] == [
        (0, [15, 16, 17, 18, 19]),
        (5, [100, 101, 102]),
    ]


def test_a_medium_cut_by_the_end_contributes_the_pads_before_it():
    spans = media_spans((FIRST, SECOND), 33)
    assert [(span.offset, span.num_tokens) for span in spans] == [(10, 20), (30, 3)]
    assert len(media_spans((FIRST, SECOND), 30)) == 1
