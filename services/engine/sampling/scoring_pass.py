"""Scores the prompt tokens of one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from services.engine.host_copy import to_device, to_host
from services.engine.sampling.device_rows import first_ranked_rows
from services.engine.sampling.ranking import rank_of
from services.engine.sampling.row_logits import token_logprobs
from services.engine.sampling.scores import Scores, Scoring


class Scorable(Protocol):
    """A prompt, some or none of whose tokens are scored."""

    @property
    def scoring(self) -> Scoring | None: ...
    def targets(self, start: int, end: int) -> Sequence[int]:
        """Returns the tokens that are scored where tokens [start, end) are computed."""


Owner = TypeVar("Owner", bound=Scorable)


@dataclass(frozen=True)
class ScoredPart(Generic[Owner]):
    """The scored rows of one prompt: the `targets`, of which the first has index `first` in the prompt."""

    owner: Owner
    first: int
    targets: Sequence[int]
    top: int


def scoring_pass(chunks: Iterable[tuple[Owner, int, int]]) -> ScoringPass[Owner] | None:
    """Returns what scores the tokens of a batch that has tokens [start, end) of each prompt, in this order.
    None: nothing is scored.
    """
    parts = []
    for owner, start, end in chunks:
        scoring = owner.scoring
        targets = () if scoring is None else owner.targets(start, end)
        if scoring is not None and targets:
            parts.append(ScoredPart(owner, end + 1 - len(targets), targets, scoring.top))
    return ScoringPass(parts) if parts else None


class ScoringPass(Generic[Owner]):
    """Takes the logits of a batch's scored rows, slice by slice, and keeps the scores alone.

    A score depends only on its row of logits. On the host it has the same bits as the log-probability of a
    generated token.
    """

    def __init__(self, parts: Sequence[ScoredPart[Owner]]) -> None:
        """`parts`: in the order of the batch's scored rows."""
        self._parts = parts
        self._targets = [target for part in parts for target in part.targets]
        self._top = max(part.top for part in parts)
        self._taken = 0
        self._columns: list[tuple[Tensor, ...]] = []

    def take(self, logits: Tensor) -> None:
        """Scores the next rows: float32 `[up to N, V]`, which are not kept. Never waits for a device."""
        targets = self._targets[self._taken : self._taken + len(logits)]
        self._taken += len(targets)
        score = _on_device if logits.is_cuda else _on_host
        self._columns.append(score(logits, targets, self._top))

    def results(self) -> list[tuple[Owner, Scores]]:
        """Returns the scores of each part. Call after the device has done what was given to it."""
        columns = [torch.cat(column).numpy() for column in zip(*self._columns, strict=True)]
        logprobs, ranks, top_ids, top_logprobs = columns
        whole = Scores(
            0,
            logprobs.astype(np.float32),
            ranks.astype(np.uint32),
            top_ids.astype(np.uint32),
            top_logprobs.astype(np.float32),
        )
        results, start = [], 0
        for part in self._parts:
            end = start + len(part.targets)
            rows = whole.rows(start, end, part.top)
            results.append((part.owner, Scores(part.first, *list(vars(rows).values())[1:])))
            start = end
        return results


def _on_host(logits: Tensor, targets: Sequence[int], top: int) -> tuple[Tensor, ...]:
    logprobs, ranks, top_ids, top_logprobs = [], [], [], []
    for row, target in zip(logits.numpy(), targets, strict=True):
        logprob, likeliest = token_logprobs(row, target, top)
        logprobs.append(logprob)
        ranks.append(rank_of(row, target))
        top_ids.append([token_id for token_id, _ in likeliest])
        top_logprobs.append([value for _, value in likeliest])
    width = min(top, logits.shape[1])
    shape = len(targets), width
    return (
        torch.tensor(logprobs, dtype=torch.float64),
        torch.tensor(ranks),
        torch.tensor(top_ids, dtype=torch.int64).view(shape),
        torch.tensor(top_logprobs, dtype=torch.float64).view(shape),
    )


def _on_device(logits: Tensor, targets: Sequence[int], top: int) -> tuple[Tensor, ...]:
    ids = to_device(targets, torch.int64, logits.device)[:, None]
    normalisers = torch.logsumexp(logits.double(), dim=-1, keepdim=True)
    chosen = logits.gather(1, ids)
    lower = torch.arange(logits.shape[1], device=logits.device) < ids
    before = (logits > chosen) | ((logits == chosen) & lower)
    names = first_ranked_rows(logits, top)
    return (
        to_host((chosen.double() - normalisers)[:, 0]),
        to_host(before.sum(dim=-1) + 1),
        to_host(names),
        to_host(logits.gather(1, names).double() - normalisers),
    )
