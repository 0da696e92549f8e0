"""Scores of a prompt as they come from a decode worker, in parts."""

from __future__ import annotations

import pytest

from perigee.v1 import scores_pb2
from services.common.errors import WorkerLost
from services.gateway.workers.stream.prompt_scores import PromptScores


def part(first: int, count: int, top: int = 2, **fields: list[float]) -> scores_pb2.PromptScores:
    columns = {
        "logprobs": [-float(first + place) for place in range(count)],
        "ranks": [1] * count,
        "top_ids": list(range(count * top)),
        "top_logprobs": [-1.0] * count * top,
    }
    return scores_pb2.PromptScores(first_token=first, **(columns | fields))


def test_parts_follow_one_another_until_all_have_come():
    scores = PromptScores(first=3, count=5, top=2)
    scores.take(part(3, 2))
    assert not scores.complete
    scores.take(part(5, 3))
    assert scores.complete
    assert scores.logprobs.tolist() == [-3, -4, -5, -6, -7]
    assert scores.top_ids.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]


def test_another_worker_begins_anew():
    scores = PromptScores(first=1, count=3, top=0)
    scores.take(part(1, 2, top=0))
    scores.take(part(1, 1, top=0))
    scores.take(part(2, 2, top=0))
    assert (scores.complete, scores.logprobs.tolist()) == (True, [-1, -2, -3])


@pytest.mark.parametrize(
    "wrong",
    [
        part(4, 1),
        part(3, 6),
        part(3, 2, top=1),
        part(3, 2, ranks=[1]),
        part(3, 2, top_logprobs=[]),
        part(3, 0, ranks=[1]),
    ],
)
def test_a_part_that_does_not_continue_what_has_come_is_refused(wrong):
    with pytest.raises(WorkerLost):
        PromptScores(first=3, count=5, top=2).take(wrong)


def test_where_nothing_is_scored_nothing_is_missing():
    assert PromptScores(first=1, count=0, top=5).complete
