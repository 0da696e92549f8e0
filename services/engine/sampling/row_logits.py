"""Operations on one row of logits: the adjustments before the choice, and log-probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.engine.sampling.ranking import likeliest
from services.engine.sampling.state import SamplingState


def adjust_logits(row: npt.NDArray[np.float32], state: SamplingState) -> None:
    """Changes `row`, [V] raw logits, in place to the logits that the next token is chosen from.

    Applies, in this order: logit bias; stop tokens to -inf below min_tokens; repetition penalty r on tokens
    of prompt or output (x / r if x > 0, else x * r); minus frequency penalty times occurrences in the output;
    minus presence penalty once for tokens of the output. Temperature and filters come after this: see draw.
    """
    row[state.bias_ids] += state.bias
    if state.withholds_stops:
        row[state.stop_ids] = -np.inf
    if state.seen is not None:
        penalty = np.float32(state.spec.repetition_penalty)
        values = row[state.seen.ids]
        row[state.seen.ids] = np.where(values > 0, values / penalty, values * penalty)
    if state.generated is not None:
        row[state.generated.ids] -= np.float32(state.spec.frequency_penalty) * state.generated.counts
        row[state.generated.ids] -= np.float32(state.spec.presence_penalty)


def token_logprobs(
    row: npt.NDArray[np.float32], token_id: int, top: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """The natural log-probability of `token_id` and the `top` likeliest (token id, log-probability) pairs.

    row: [V] raw logits, before bias, penalties, temperature and filters. Computes log_softmax in float64;
    pairs are ordered by descending probability, equal ones by ascending id.
    """
    maximum = float(row.max())
    normaliser = maximum + float(np.log(np.exp(row.astype(np.float64) - maximum).sum()))
    ids: list[int] = likeliest(row, top).tolist() if top else []
    return float(row[token_id]) - normaliser, tuple((i, float(row[i]) - normaliser) for i in ids)
