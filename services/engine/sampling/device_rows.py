"""Chooses tokens where the logits are, for rows that need adjusted logits or log-probabilities. Small arrays
are copied to the device, and tokens back.

Follows the same rules as on the host (`adjust_logits`, `hold`, `token_logprobs`), for all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.common.errors import PerigeeError
from services.engine.host_copy import moved, to_device, to_host
from services.engine.sampling.constraint import constrained
from services.engine.sampling.outcome import Drawn, Outcome, SampledToken, nothing_left
from services.engine.sampling.state import SamplingState

_LOW = 0xFFFFFFFF


def choose_rows(
    logits: Tensor,
    states: Sequence[SamplingState],
    indices: Sequence[int],
    draw: Callable[[Tensor, Sequence[SamplingState]], Tensor],
) -> Drawn:
    """Chooses a token for each row of float32 `logits` [R, V], without waiting for the device. `indices`: the
    rows' names in errors; `draw` returns int64 [N] for adjusted logits [N, V] and their states.
    """
    masks, failures = _masks(states)
    adjusted = adjust_rows(logits, states)
    if masks:
        hold_rows(adjusted, logits, masks)
    best = torch.max(adjusted, dim=-1)
    ids = best.indices
    drawn = [row for row, state in enumerate(states) if not state.spec.is_greedy]
    if drawn:
        rows = to_device(drawn, torch.int64, logits.device)
        # A row of NaN may give any number; its token is not used.
        ids[rows] = draw(adjusted[rows], [states[row] for row in drawn]).clamp(0, logits.shape[1] - 1)
    usable, tokens = to_host(torch.isfinite(best.values)), to_host(ids)
    logprobs = RowLogprobs(logits, states, ids)

    def outcomes() -> list[Outcome]:
        found: list[Outcome] = []
        for row, (token_id, is_usable) in enumerate(zip(tokens.tolist(), usable.tolist(), strict=True)):
            if row in failures:
                found.append(failures[row])
            elif not is_usable:
                found.append(nothing_left(indices[row]))
            else:
                token = constrained(states[row].constraint, token_id)
                found.append(logprobs.added(row, token))
        return found

    return Drawn(ids, outcomes)


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
        """`parts`: rows, token ids in each, and a value for each or one for all of them."""
        self._flat, size = logits.view(-1), logits.shape[1]
        places = [row * size + ids for row, ids, _ in parts]
        values = [np.broadcast_to(np.float32(value), ids.shape) for _, ids, value in parts]
        self._places, self.values = (
            moved(torch.from_numpy(np.concatenate([empty, *each])), logits.device)
            for empty, each in ((np.empty(0, np.int64), places), (np.empty(0, np.float32), values))
        )

    def logits(self) -> Tensor:
        """The entries' current logits, [K]."""
        return self._flat[self._places]

    def put(self, logits: Tensor) -> None:
        """Replaces the entries' logits by others, [K]."""
        self._flat[self._places] = logits


def hold_rows(adjusted: Tensor, raw: Tensor, masks: dict[int, npt.NDArray[np.uint8]]) -> None:
    """Sets to -inf, in place, what the masks of some rows do not allow. If that leaves nothing of a row, its
    mask applies to the raw logits instead, because it outranks bias and minimum length.
    """
    size, device = adjusted.shape[1], adjusted.device
    rows = to_device(list(masks), torch.int64, device)
    packed = moved(torch.from_numpy(np.stack([mask[: -(-size // 8)] for mask in masks.values()])), device)
    bits = (packed[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=device)) & 1
    forbidden = bits.flatten(1)[:, :size] == 0
    held = adjusted[rows].masked_fill_(forbidden, -torch.inf)
    empty = ~torch.isfinite(held.max(dim=-1, keepdim=True).values)
    adjusted[rows] = torch.where(empty, raw[rows].masked_fill_(forbidden, -torch.inf), held)


def _masks(
    states: Sequence[SamplingState],
) -> tuple[dict[int, npt.NDArray[np.uint8]], dict[int, PerigeeError]]:
    """Masks by row, and the errors of rows whose grammar has failed."""
    masks: dict[int, npt.NDArray[np.uint8]] = {}
    failures: dict[int, PerigeeError] = {}
    for row, state in enumerate(states):
        if state.constraint is not None:
            try:
                masks[row] = state.constraint.allowed()
            except PerigeeError as error:
                failures[row] = error
    return masks, failures


class RowLogprobs:
    """Logprobs of rows whose specs ask for them: starts computing at once, `added` returns them."""

    def __init__(self, logits: Tensor, states: Sequence[SamplingState], ids: Tensor) -> None:
        """Raw `logits` [R, V], and `ids` int64 [R] of the tokens drawn."""
        specs = {row: state.spec for row, state in enumerate(states) if state.spec.logprobs}
        self._places = {row: place for place, row in enumerate(specs)}
        self._counts = [spec.top_logprobs for spec in specs.values()]
        if not specs:
            return
        rows = to_device(list(specs), torch.int64, logits.device)
        self._raw = logits[rows]
        self._normalisers = torch.logsumexp(self._raw.double(), dim=-1)
        chosen = self._raw.gather(1, ids[rows][:, None])[:, 0]
        self._logprobs = to_host(chosen.double() - self._normalisers)
        names = first_ranked_rows(self._raw, max(self._counts))
        self._names = to_host(names)
        self._values = to_host(self._raw.gather(1, names).double() - self._normalisers[:, None])

    def added(self, row: int, token: SampledToken) -> SampledToken:
        """The token with the logprobs that its row's spec asks for. Waits for the device if it replaces the
        drawn one.
        """
        place = self._places.get(row)
        if place is None:
            return token
        logprobs, names, values = self._lists
        logprob = logprobs[place]
        if token.drawn_id is not None:
            logprob = float(self._raw[place, token.token_id].double() - self._normalisers[place])
        top = tuple(zip(names[place], values[place], strict=True))[: self._counts[place]]
        return replace(token, logprob=logprob, top=top)

    @cached_property
    def _lists(self) -> tuple[list[float], list[list[int]], list[list[float]]]:
        """All lists, read once they are on the host."""
        return self._logprobs.tolist(), self._names.tolist(), self._values.tolist()


def first_ranked_rows(rows: Tensor, count: int) -> Tensor:
    """int64 [R, min(count, V)]: likelier tokens first, lower ids first among equals, as in `rank_keys`."""
    bits = (rows + 0.0).view(torch.int32)  # adding zero turns -0.0 into 0.0
    ascending = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64) << 32
    keys = ascending | (_LOW - torch.arange(rows.shape[1], device=rows.device))
    return _LOW - (keys.topk(min(count, rows.shape[1]), dim=-1).values & _LOW)
