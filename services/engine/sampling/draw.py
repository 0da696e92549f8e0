"""Chooses a token from logits and one random number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.engine.sampling.ranking import first_ranked, rank_keys
from services.engine.sampling.spec import SamplingSpec

# Most draws fall among the likeliest tokens: a large vocabulary is sorted in full only if one does not.
_HEAD = 2048


def draw_token(row: npt.NDArray[np.float32], spec: SamplingSpec, uniform: float) -> int:
    """The token that `uniform` in [0, 1) selects from softmax(row / temperature), filtered.

    row: [V] adjusted logits with a finite maximum. Filters apply in this order, each to what the previous one
    left, renormalised: top_k keeps the first k tokens in rank order; top_p the shortest prefix with at least
    that mass; min_p those at least min_p times as likely as the first. So a prefix of the rank order remains,
    and the token is the first in it whose cumulative mass exceeds `uniform` times the whole: an inverse CDF
    in float64 that depends only on this row.
    """
    maximum = float(row.max())
    keys = rank_keys(row)
    if 0 < spec.top_k < len(row):
        ids = first_ranked(keys, spec.top_k)
        weights = _weights(row[ids], maximum, spec.temperature)
        return int(ids[_last_resort(_place(weights, float(weights.sum()), spec, uniform), weights)])
    total = float(_weights(row, maximum, spec.temperature).sum())
    if len(row) > 2 * _HEAD:
        ids = first_ranked(keys, _HEAD)
        place = _place(_weights(row[ids], maximum, spec.temperature), total, spec, uniform, complete=False)
        if place is not None:
            return int(ids[place])
    ids = first_ranked(keys, len(row))
    weights = _weights(row[ids], maximum, spec.temperature)
    return int(ids[_last_resort(_place(weights, total, spec, uniform), weights)])


def _weights(logits: npt.NDArray[np.float32], maximum: float, temperature: float) -> npt.NDArray[np.float64]:
    """exp((logit - maximum) / temperature): probabilities up to one factor, the likeliest exactly 1."""
    return np.exp((logits.astype(np.float64) - maximum) / temperature)


def _place(
    weights: npt.NDArray[np.float64], total: float, spec: SamplingSpec, uniform: float, complete: bool = True
) -> int | None:
    """Index at which the draw falls in descending `weights`, which sum to `total` if `complete`; None: after
    them.
    """
    count = len(weights)
    cumulative = weights.cumsum()
    kept = count + 1
    if spec.top_p < 1.0:
        kept = int(cumulative.searchsorted(spec.top_p * total)) + 1
    if spec.min_p > 0.0:
        likely = int((-weights).searchsorted(-spec.min_p, side="right"))
        kept = min(kept, likely) if likely < count else kept
    if kept > count:
        if not complete and (spec.top_p < 1.0 or spec.min_p > 0.0):
            return None
        place = int(cumulative.searchsorted(uniform * total, side="right"))
        return place if place < count else None
    place = int(cumulative.searchsorted(uniform * cumulative[kept - 1], side="right"))
    return min(place, kept - 1)


def _last_resort(place: int | None, weights: npt.NDArray[np.float64]) -> int:
    """The place, or the last token that has any mass: only rounding puts a draw after all tokens."""
    return int(np.count_nonzero(weights)) - 1 if place is None else place
