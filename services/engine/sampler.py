"""Chooses the next token of every row of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.common.errors import InternalError
from services.engine.host_copy import to_device, to_host
from services.engine.sampling.adjust import adjust_logits
from services.engine.sampling.constraint import RowConstraint, hold
from services.engine.sampling.device_rows import choose_rows
from services.engine.sampling.draw import draw_token
from services.engine.sampling.logprobs import token_logprobs
from services.engine.sampling.outcome import Outcome, SampledToken, nothing_left
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState

__all__ = ["SampledToken", "Sampler", "SamplingSpec", "SamplingState"]


Draw: TypeAlias = Callable[[Tensor, Sequence[SamplingState], Sequence[int]], Tensor]
"""Of float32 `[R, V]`, states and places among the outputs: int64 `[R]`."""


@dataclass(frozen=True)
class Drawn:
    """What a batch gave. `ids` int64 `[R]`, where the logits are: good as input of the next step before the
    host knows them; None where the host has chosen. `outcomes`: to be called when a Moment behind it came.
    """

    ids: Tensor | None
    outcomes: Callable[[], list[Outcome]]


class Sampler:
    """Samples by counter: a token is a function of its row of logits and its state alone.

    So it is bit-equal whatever else is in the batch, and a choice resumed from its outputs goes on with the
    same draws. Greedy rows are decided together on the logits' device, and with `draw` all others too;
    without it these are brought to the host.
    """

    def __init__(self, vocab_size: int, draw: Draw | None = None, *, ahead: bool = False) -> None:
        """`draw`: where the logits are, of rows that may be adjusted ones; None: every row on the host.

        `ahead`: whether `begin` may leave tokens on the device, for the next step to begin with them.
        """
        self._vocab_size = vocab_size
        self._draw = draw
        self._ahead = ahead

    def begin(self, logits: Tensor, states: Sequence[SamplingState], positions: Sequence[int]) -> Drawn:
        """Like `sample`, without waiting for the device where no row needs the host.

        `positions`: which output of each state this is. Beyond `len(output_ids)` only where the tokens
        between are known to the device alone.
        """
        if not (self._ahead and all(map(self._is_plain, states))):
            outcomes = self._sample(logits, states, positions)
            return Drawn(None, lambda: outcomes)
        self._check(logits, states)
        best = torch.max(logits, dim=-1)
        ids = best.indices
        drawn = [index for index, state in enumerate(states) if not state.spec.is_greedy]
        if drawn and self._draw is not None:
            rows = to_device(drawn, torch.int64, logits.device)
            found = _draw_some(self._draw, logits[rows], drawn, states, positions)
            # A row of no numbers may give anything, and the next step looks it up.
            ids[rows] = found.clamp(0, self._vocab_size - 1)
        maxima, tokens = to_host(best.values), to_host(ids)
        return Drawn(ids, lambda: _outcomes(tokens.tolist(), maxima.tolist()))

    def sample(self, logits: Tensor, states: Sequence[SamplingState]) -> list[Outcome]:
        """One outcome per row of `logits`, float32 [R, vocab_size], which are left as they are; `states`: R.

        A row without a usable maximum (NaN, +inf, all -inf, nothing left to choose) gets an InternalError
        in its place: that request fails, its neighbours do not. The states are not touched: the caller
        appends. InternalError is raised only when the shapes do not fit.
        """
        return self._sample(logits, states, [len(state.output_ids) for state in states])

    def _sample(
        self, logits: Tensor, states: Sequence[SamplingState], positions: Sequence[int]
    ) -> list[Outcome]:
        self._check(logits, states)
        if not states:
            return []
        # Of several largest values torch.max names the first: the lowest id. A NaN anywhere is the largest.
        best = torch.max(logits, dim=-1)
        outcomes = _outcomes(best.indices.tolist(), best.values.tolist())
        slow: list[int] = []
        drawn: list[int] = []
        for index, state in enumerate(states):
            if isinstance(outcomes[index], InternalError):
                continue
            if not self._is_plain(state):
                slow.append(index)
            elif not state.spec.is_greedy:
                drawn.append(index)
        if drawn and self._draw is not None:
            tokens = _draw_some(self._draw, logits[drawn], drawn, states, positions).tolist()
            for index, token_id in zip(drawn, tokens, strict=True):
                outcomes[index] = SampledToken(token_id)
        for index, outcome in zip(slow, self._sample_slow(logits, states, positions, slow), strict=True):
            outcomes[index] = outcome
        return outcomes

    def _sample_slow(
        self,
        logits: Tensor,
        states: Sequence[SamplingState],
        positions: Sequence[int],
        indices: Sequence[int],
    ) -> list[Outcome]:
        """Of the rows at `indices`, which need more than a draw."""
        if not indices:
            return []
        rows = logits[indices].float()
        if self._draw is None:
            numbered = zip(rows.cpu().numpy(), indices, strict=True)
            return [_sample_row(row, states[index], index) for row, index in numbered]
        draw = self._draw

        def draw_some(adjusted: Tensor, places: Sequence[int]) -> Tensor:
            return _draw_some(draw, adjusted, [indices[place] for place in places], states, positions)

        return choose_rows(rows, [states[index] for index in indices], indices, draw_some)

    def _is_plain(self, state: SamplingState) -> bool:
        """Whether its token can be chosen where the logits are."""
        if state.adjusts or state.spec.logprobs:
            return False
        return state.spec.is_greedy or self._draw is not None

    def _check(self, logits: Tensor, states: Sequence[SamplingState]) -> None:
        if logits.shape != (len(states), self._vocab_size):
            raise InternalError(f"logits are {tuple(logits.shape)}, not {(len(states), self._vocab_size)}")


def _draw_some(
    draw: Draw,
    logits: Tensor,
    indices: Sequence[int],
    states: Sequence[SamplingState],
    positions: Sequence[int],
) -> Tensor:
    """Of the states and positions at `indices`, whose rows `logits` are."""
    return draw(logits.float(), [states[index] for index in indices], [positions[index] for index in indices])


def _outcomes(token_ids: Sequence[int], maxima: Sequence[float]) -> list[Outcome]:
    """A row's token, where its logits have a maximum."""
    return [
        SampledToken(token_id)
        if math.isfinite(maximum)
        else InternalError(f"the logits of row {row} have the maximum {maximum}")
        for row, (token_id, maximum) in enumerate(zip(token_ids, maxima, strict=True))
    ]


def _sample_row(raw: npt.NDArray[np.float32], state: SamplingState, index: int) -> Outcome:
    row = raw
    if state.adjusts:
        row = raw.copy()
        adjust_logits(row, state)
        if state.constraint is not None:
            try:
                row = _constrained(raw, row, state.constraint)
            except InternalError as error:
                return error
        if not math.isfinite(row.max()):
            return nothing_left(index)
    token_id = int(row.argmax()) if state.spec.is_greedy else draw_token(row, state.spec, state.uniform())
    if state.constraint is not None:
        token_id = state.constraint.settle(token_id)
    if not state.spec.logprobs:
        return SampledToken(token_id)
    logprob, top = token_logprobs(raw, token_id, state.spec.top_logprobs)
    return SampledToken(token_id, logprob, top)


def _constrained(
    raw: npt.NDArray[np.float32], adjusted: npt.NDArray[np.float32], constraint: RowConstraint
) -> npt.NDArray[np.float32]:
    """The adjusted row within the constraint, which outranks bias and minimum length: where these leave
    nothing of what it allows, they do not count."""
    allowed = constraint.allowed()
    hold(adjusted, allowed)
    if math.isfinite(adjusted.max()):
        return adjusted
    row = raw.copy()
    hold(row, allowed)
    return row
