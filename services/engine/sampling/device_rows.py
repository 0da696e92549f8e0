"""Rows whose token is chosen from other logits than the model's, or told with log-probabilities: chosen where
the logits are. Some small arrays go there, and tokens come back.

The same rules as on the host (`adjust_logits`, `hold`, `token_logprobs`), for all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.common.errors import InternalError
from services.engine.host_copy import moved
from services.engine.sampling.outcome import Outcome, SampledToken, nothing_left
from services.engine.sampling.state import SamplingState

_LOW = 0xFFFFFFFF


def choose_rows(
    logits: Tensor,
    states: Sequence[SamplingState],
    indices: Sequence[int],
    draw: Callable[[Tensor, Sequence[int]], Tensor],
) -> list[Outcome]:
    """One for each row of float32 `logits` [R, V]. `indices`: the rows' names in errors; `draw` of adjusted
    logits [N, V] and the places of their states gives int64 [N].
    """
    masks, failures = _masks(states)
    adjusted = adjust_rows(logits, states)
    if masks:
        hold_rows(adjusted, logits, masks)
    best = torch.max(adjusted, dim=-1)
    tokens = best.indices
    drawn = [row for row, state in enumerate(states) if not state.spec.is_greedy]
    if drawn:
        # A row of no numbers may give anything; it is not used.
        tokens[drawn] = draw(adjusted[drawn], drawn).clamp(0, logits.shape[1] - 1)
    usable = torch.isfinite(best.values).tolist()
    outcomes: list[Outcome] = []
    for row, token_id in enumerate(tokens.tolist()):
        constraint = states[row].constraint
        if row in failures:
            outcomes.append(failures[row])
        elif not usable[row]:
            outcomes.append(nothing_left(indices[row]))
        else:
            outcomes.append(SampledToken(token_id if constraint is None else constraint.settle(token_id)))
    _tell_logprobs(logits, states, outcomes)
    return outcomes


def adjust_rows(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """A copy of raw `logits` [R, V] with bias, minimum length and penalties: see `adjust_logits`."""
    out = logits.clone()
    rows = list(enumerate(states))
    seen_parts = [(row, it.seen.ids, it.spec.repetition_penalty) for row, it in rows if it.seen is not None]
    counted = [(row, it.generated, it.spec) for row, it in rows if it.generated is not None]
    bias = _Entries(out, [(row, state.bias_ids, state.bias) for row, state in rows])
    bias.put(bias.logits() + bias.values)
    stops = _Entries(out, [(row, state.stop_ids, -np.inf) for row, state in rows if state.withholds_stops])
    stops.put(stops.values)
    seen = _Entries(out, seen_parts)
    before = seen.logits()
    seen.put(torch.where(before > 0, before / seen.values, before * seen.values))
    frequent = _Entries(
        out, [(row, it.ids, np.float32(spec.frequency_penalty) * it.counts) for row, it, spec in counted]
    )
    frequent.put(frequent.logits() - frequent.values)
    present = _Entries(out, [(row, it.ids, spec.presence_penalty) for row, it, spec in counted])
    present.put(present.logits() - present.values)
    return out


class _Entries:
    """Some entries of [R, V] logits, each at most once, and a float32 value [K] for each of them."""

    def __init__(
        self,
        logits: Tensor,
        parts: Sequence[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32] | float]],
    ) -> None:
        """`parts`: rows, the tokens there, and a value for each or for all of them."""
        self._flat, size = logits.view(-1), logits.shape[1]
        places = [row * size + ids for row, ids, _ in parts]
        values = [np.broadcast_to(np.float32(value), ids.shape) for _, ids, value in parts]
        self._places, self.values = (
            moved(torch.from_numpy(np.concatenate([empty, *each])), logits.device)
            for empty, each in ((np.empty(0, np.int64), places), (np.empty(0, np.float32), values))
        )

    def logits(self) -> Tensor:
        """[K] as they are now."""
        return self._flat[self._places]

    def put(self, logits: Tensor) -> None:
        """[K] others in their places."""
        self._flat[self._places] = logits


def hold_rows(adjusted: Tensor, raw: Tensor, masks: dict[int, npt.NDArray[np.uint8]]) -> None:
    """Sets to -inf, in place, what the masks of some rows do not allow. Where nothing would be left of a row,
    its mask holds the raw logits instead: it outranks bias and minimum length.
    """
    size, device = adjusted.shape[1], adjusted.device
    rows = torch.tensor(list(masks), device=device)
    packed = moved(torch.from_numpy(np.stack([mask[: -(-size // 8)] for mask in masks.values()])), device)
    bits = (packed[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=device)) & 1
    forbidden = bits.flatten(1)[:, :size] == 0
    held = adjusted[rows].masked_fill_(forbidden, -torch.inf)
    empty = ~torch.isfinite(held.max(dim=-1).values)
    held[empty] = raw[rows[empty]].masked_fill_(forbidden[empty], -torch.inf)
    adjusted[rows] = held


def _masks(
    states: Sequence[SamplingState],
) -> tuple[dict[int, npt.NDArray[np.uint8]], dict[int, InternalError]]:
    """By row; and of those whose grammar has failed, how."""
    masks: dict[int, npt.NDArray[np.uint8]] = {}
    failures: dict[int, InternalError] = {}
    for row, state in enumerate(states):
        if state.constraint is not None:
            try:
                masks[row] = state.constraint.allowed()
            except InternalError as error:
                failures[row] = error
    return masks, failures


def _tell_logprobs(logits: Tensor, states: Sequence[SamplingState], outcomes: list[Outcome]) -> None:
    """Adds to the tokens, in place, what their specs ask for: see `token_logprobs`."""
    asked = {
        row: outcome.token_id
        for row, outcome in enumerate(outcomes)
        if states[row].spec.logprobs and isinstance(outcome, SampledToken)
    }
    if not asked:
        return
    raw = logits[list(asked)]
    normalisers = torch.logsumexp(raw.double(), dim=-1)
    chosen = raw.gather(1, torch.tensor(list(asked.values()), device=raw.device)[:, None])[:, 0]
    logprobs = (chosen.double() - normalisers).tolist()
    most = max(states[row].spec.top_logprobs for row in asked)
    ids = _first_ranked(raw, most)
    tops = (raw.gather(1, ids).double() - normalisers[:, None]).tolist()
    for (row, token_id), logprob, names, values in zip(
        asked.items(), logprobs, ids.tolist(), tops, strict=True
    ):
        top = tuple(zip(names, values, strict=True))[: states[row].spec.top_logprobs]
        outcomes[row] = SampledToken(token_id, logprob, top)


def _first_ranked(rows: Tensor, count: int) -> Tensor:
    """int64 [R, min(count, V)]: likelier tokens first, of equals the lower id; as `rank_keys` has it."""
    bits = (rows + 0.0).view(torch.int32)  # adding zero turns -0.0 into 0.0
    ascending = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64) << 32
    keys = ascending | (_LOW - torch.arange(rows.shape[1], device=rows.device))
    return _LOW - (keys.topk(min(count, rows.shape[1]), dim=-1).values & _LOW)
