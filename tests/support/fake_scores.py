"""The scores of prompts under the model without weights, one token after another, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from services.engine.sampling.scores import Scores, Scoring
from tests.support.fake_runner import VOCAB, next_token

Row = tuple[int, float, int, list[int]]
"""A token's index, log-probability, rank and likeliest alternatives."""


def expected_rows(prompt: Sequence[int], scoring: Scoring) -> list[Row]:
    """What a prompt's tokens must get."""
    rows = []
    for place in range(scoring.first, len(prompt)):
        likeliest, token = next_token(prompt[:place]), prompt[place]
        order = [likeliest, *(other for other in range(VOCAB) if other != likeliest)]
        logit = 20.0 if token == likeliest else 0.0
        logprob = logit - math.log(math.exp(20.0) + VOCAB - 1)
        rows.append((place, round(logprob, 4), order.index(token) + 1, order[: scoring.top]))
    return rows


def rows_of(parts: Iterable[Scores]) -> list[Row]:
    """The same form of what was computed."""
    return [
        (
            part.first + row,
            round(float(part.logprobs[row]), 4),
            int(part.ranks[row]),
            part.top_ids[row].tolist(),
        )
        for part in parts
        for row in range(len(part))
    ]


def scores_of(prompt: Sequence[int], scoring: Scoring) -> Scores:
    """What a prefill worker sends."""
    rows = expected_rows(prompt, scoring)
    top_ids = np.array([ids for *_, ids in rows], np.uint32).reshape(len(rows), scoring.top)
    return Scores(
        scoring.first,
        np.array([logprob for _, logprob, _, _ in rows], np.float32),
        np.array([rank for _, _, rank, _ in rows], np.uint32),
        top_ids,
        np.zeros(top_ids.shape, np.float32),
    )
