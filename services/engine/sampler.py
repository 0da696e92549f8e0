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
from services.engine.sampling.adjust import adjust_logits
from services.engine.sampling.constraint import RowConstraint
from services.engine.sampling.draw import draw_token
from services.engine.sampling.logprobs import token_logprobs
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState

__all__ = ["SampledToken", "Sampler", "SamplingSpec", "SamplingState"]


Draw: TypeAlias = Callable[[Tensor, Sequence[SamplingState]], Tensor]


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token; where the spec asks for logprobs, also its own and the likeliest (id, logprob) pairs."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Samples by counter: a token is a function of its row of logits and its state alone.

    So it is bit-equal whatever else is in the batch, and a choice resumed from its outputs goes on with the
    same draws. Greedy rows are decided together on the logits' device; only rows that need more are brought
    to the host.
    """

    def __init__(self, vocab_size: int, draw: Draw | None = None) -> None:
        """`draw`: where the logits are, of the rows that need nothing else; None: every row on the host."""
        self._vocab_size = vocab_size
        self._draw = draw

    def sample(self, logits: Tensor, states: Sequence[SamplingState]) -> list[SampledToken | InternalError]:
        """One outcome per row of `logits`, float32 [R, vocab_size], which are left as they are; `states`: R.

        A row without a usable maximum (NaN, +inf, all -inf, nothing left to choose) gets an InternalError
        in its place: that request fails, its neighbours do not. The states are not touched: the caller
        appends. InternalError is raised only when the shapes do not fit.
        """
        if logits.shape != (len(states), self._vocab_size):
            raise InternalError(f"logits are {tuple(logits.shape)}, not {(len(states), self._vocab_size)}")
        if not states:
            return []
        # Of several largest values torch.max names the first: the lowest id. A NaN anywhere is the largest.
        best = torch.max(logits, dim=-1)
        maxima: list[float] = best.values.tolist()
        argmax: list[int] = best.indices.tolist()
        outcomes: list[SampledToken | InternalError] = [SampledToken(token_id) for token_id in argmax]
        slow: list[int] = []
        drawn: list[int] = []
        for index, state in enumerate(states):
            if not math.isfinite(maxima[index]):
                outcomes[index] = InternalError(f"the logits of row {index} have the maximum {maxima[index]}")
            elif state.adjusts or state.spec.logprobs:
                slow.append(index)
            elif not state.spec.is_greedy:
                (slow if self._draw is None else drawn).append(index)
        if drawn and self._draw is not None:
            tokens: list[int] = self._draw(logits[drawn].float(), [states[index] for index in drawn]).tolist()
            for index, token_id in zip(drawn, tokens, strict=True):
                outcomes[index] = SampledToken(token_id)
        rows = logits[slow].float().cpu().numpy()
        for row, index in zip(rows, slow, strict=True):
            outcomes[index] = _sample_row(row, states[index], index)
        return outcomes


def _sample_row(
    raw: npt.NDArray[np.float32], state: SamplingState, index: int
) -> SampledToken | InternalError:
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
            return InternalError(f"bias, penalties and constraint leave no token to choose in row {index}")
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
    constraint.restrict(adjusted)
    if math.isfinite(adjusted.max()):
        return adjusted
    row = raw.copy()
    constraint.restrict(row)
    return row
