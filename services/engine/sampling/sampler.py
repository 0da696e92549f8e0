"""Chooses the next token of every row of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.common.errors import InternalError, PerigeeError
from services.engine.host_copy import DeviceEvent, to_device, to_host
from services.engine.sampling.constraint import RowConstraint, constrained, hold
from services.engine.sampling.device_rows import choose_rows
from services.engine.sampling.draw import draw_token
from services.engine.sampling.outcome import Drawn, Outcome, SampledToken, nothing_left
from services.engine.sampling.row_logits import adjust_logits, token_logprobs
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState

__all__ = ["SampledToken", "Sampler", "SamplingSpec", "SamplingState"]


Draw: TypeAlias = Callable[[Tensor, Sequence[SamplingState]], Tensor]
"""Draws the next token of each row from float32 `[R, V]`: int64 `[R]`, on the device of the logits."""


class Sampler:
    """Samples by counter: a token depends only on its row of logits and its state.

    So its bits are the same whatever else is in the batch, and a choice resumed from its outputs continues
    with the same draws. With `draw` every token is chosen where the logits are; without it only those of
    greedy rows that nothing adjusts are, and the other rows are copied to the host.
    """

    def __init__(self, vocab_size: int, draw: Draw | None = None) -> None:
        self._vocab_size = vocab_size
        self._draw = draw

    def sample(self, logits: Tensor, states: Sequence[SamplingState]) -> list[Outcome]:
        """One outcome per row of `logits`: see `begin`."""
        drawn = self.begin(logits, states)
        DeviceEvent(logits.device).wait()
        return drawn.outcomes()

    def begin(self, logits: Tensor, states: Sequence[SamplingState]) -> Drawn:
        """Starts sampling each row of `logits`, float32 [R, vocab_size], which stay unchanged; `states`: R.
        With a `draw` it does not wait for the device.

        A row without a usable maximum (NaN, +inf, all -inf, nothing left to choose) gets an InternalError in
        its place: that request fails, its neighbours do not. Does not change the states: the caller appends.
        Raises InternalError only if the shapes do not fit.
        """
        if logits.shape != (len(states), self._vocab_size):
            raise InternalError(f"logits are {tuple(logits.shape)}, not {(len(states), self._vocab_size)}")
        if not states:
            return Drawn(torch.empty(0, dtype=torch.int64, device=logits.device), list)
        # torch.max returns the first of several largest values: the lowest id. A NaN anywhere is the largest.
        best = torch.max(logits, dim=-1)
        drawn: list[int] = []
        others: list[int] = []
        for index, state in enumerate(states):
            if state.adjusts or state.spec.logprobs:
                others.append(index)
            elif not state.spec.is_greedy:
                drawn.append(index)
        if self._draw is None:
            return _on_host(logits, states, best.indices, best.values, sorted(drawn + others))
        return self._on_device(logits, states, best.indices, best.values, drawn, others, self._draw)

    def _on_device(
        self,
        logits: Tensor,
        states: Sequence[SamplingState],
        ids: Tensor,
        best: Tensor,
        drawn: Sequence[int],
        others: Sequence[int],
        draw: Draw,
    ) -> Drawn:
        """`ids`, `best` [R]: of greedy rows; `drawn`: rows that only need a draw; `others`: rows that need
        more.
        """
        chosen: Drawn | None = None
        if drawn:
            rows = to_device(drawn, torch.int64, logits.device)
            found = draw(logits[rows].float(), [states[index] for index in drawn])
            # A row of NaN may give any number, and the next step looks it up.
            ids[rows] = found.clamp(0, self._vocab_size - 1)
        if others:
            rows = to_device(others, torch.int64, logits.device)
            chosen = choose_rows(logits[rows].float(), [states[index] for index in others], others, draw)
            ids[rows] = chosen.ids
        maxima, tokens = to_host(best), to_host(ids)

        def outcomes() -> list[Outcome]:
            all_rows = _outcomes(tokens.tolist(), maxima.tolist())
            for index, outcome in zip(others, chosen.outcomes() if chosen is not None else (), strict=True):
                if not isinstance(all_rows[index], PerigeeError):
                    all_rows[index] = outcome
            return all_rows

        return Drawn(ids, outcomes)


def _on_host(
    logits: Tensor, states: Sequence[SamplingState], ids: Tensor, best: Tensor, rows: Sequence[int]
) -> Drawn:
    """`ids`, `best` [R]: of greedy rows; `rows`: all others."""
    outcomes = _outcomes(ids.tolist(), best.tolist())
    rows = [index for index in rows if not isinstance(outcomes[index], PerigeeError)]
    if not rows:
        return Drawn(ids, lambda: outcomes)
    for row, index in zip(logits[rows].float().cpu().numpy(), rows, strict=True):
        outcome = outcomes[index] = _sample_row(row, states[index], index)
        if isinstance(outcome, SampledToken):
            ids[index] = outcome.token_id if outcome.drawn_id is None else outcome.drawn_id
    return Drawn(ids, lambda: outcomes)


def _outcomes(token_ids: Sequence[int], maxima: Sequence[float]) -> list[Outcome]:
    """Each row's token, or an error if its logits have no finite maximum."""
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
            except PerigeeError as error:
                return error
        if not math.isfinite(row.max()):
            return nothing_left(index)
    token_id = int(row.argmax()) if state.spec.is_greedy else draw_token(row, state.spec, state.uniform())
    token = constrained(state.constraint, token_id)
    if not state.spec.logprobs:
        return token
    logprob, top = token_logprobs(raw, token.token_id, state.spec.top_logprobs)
    return replace(token, logprob=logprob, top=top)


def _constrained(
    raw: npt.NDArray[np.float32], adjusted: npt.NDArray[np.float32], constraint: RowConstraint
) -> npt.NDArray[np.float32]:
    """The adjusted row within the constraint, which outranks bias and minimum length: if these leave nothing
    that it allows, they are ignored.
    """
    allowed = constraint.allowed()
    hold(adjusted, allowed)
    if math.isfinite(adjusted.max()):
        return adjusted
    row = raw.copy()
    hold(row, allowed)
    return row
