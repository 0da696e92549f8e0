"""Log-probabilities under the model's own distribution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.engine.sampling.ranking import first_ranked, rank_keys


def token_logprobs(
    row: npt.NDArray[np.float32], token_id: int, top: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """The natural log-probability of `token_id` and the `top` likeliest (token id, log-probability) pairs.

    row: [V] raw logits, before bias, penalties, temperature and filters. log_softmax in float64; the pairs
    fall in probability, equals rise in id.
    """
    maximum = float(row.max())
    normaliser = maximum + float(np.log(np.exp(row.astype(np.float64) - maximum).sum()))
    ids: list[int] = first_ranked(rank_keys(row), top).tolist() if top else []
    return float(row[token_id]) - normaliser, tuple((i, float(row[i]) - normaliser) for i in ids)
