"""Attention of many sequences' single new tokens at once, without copying pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.batch import PAGE_TOKENS
from services.engine.model.attention.page_views import PageView

_MINUS_INFINITY = float("-inf")


@dataclass(frozen=True)
class DecodePlan:
    """The places of the pages of N one-token sequences in a flat list of P pages, the same for all layers.

    `owner` and `ordinal` int64 `[P]`: the page's sequence, and its index among that sequence's pages; `last`
    int64 `[N]`: the flat index of each sequence's last page; `hidden` bool `[N, 64]`: the slots of that page
    after the token; `used`: how many slots are not hidden; `most`: pages of the longest sequence.
    """

    page_ids: tuple[tuple[int, ...], ...]
    owner: Tensor
    ordinal: Tensor
    last: Tensor
    hidden: Tensor
    used: tuple[int, ...]
    most: int

    @classmethod
    def build(
        cls, sequences: Sequence[tuple[int, Sequence[int]]], device: torch.device | str = "cpu"
    ) -> DecodePlan:
        """Builds it from (position of the new token, page ids) of each sequence."""
        counts = [position // PAGE_TOKENS + 1 for position, _ in sequences]
        lengths = torch.tensor(counts)
        owner = torch.repeat_interleave(torch.arange(len(counts)), lengths)
        last = lengths.cumsum(0) - 1
        offsets = torch.tensor([position % PAGE_TOKENS for position, _ in sequences])
        return cls(
            page_ids=tuple(tuple(pages[:count]) for count, (_, pages) in zip(counts, sequences, strict=True)),
            owner=owner.to(device),
            ordinal=(torch.arange(len(owner)) - (last - lengths + 1)[owner]).to(device),
            last=last.to(device),
            hidden=(torch.arange(PAGE_TOKENS) > offsets[:, None]).to(device),
            used=tuple(position % PAGE_TOKENS + 1 for position, _ in sequences),
            most=max(counts),
        )


def attend_decode(query: Tensor, pages: Sequence[Sequence[PageView]], plan: DecodePlan) -> Tensor:
    """Attends with one token of each of N sequences: float32 `query [N, heads, latent + rope]` -> `[N, heads,
    latent]`.

    Computes the same sums in the same order as TiledAttention. Scores are K Q^T: with the 64 keys as rows,
    the few heads of one token need no padding.
    """
    sequences, heads, _ = query.shape
    scores = _scores(query, pages, len(plan.owner))
    scores[plan.last] = scores[plan.last].masked_fill(plan.hidden[:, None, :], _MINUS_INFINITY)
    highest = query.new_full((sequences, plan.most, heads), _MINUS_INFINITY)
    highest[plan.owner, plan.ordinal] = scores.amax(dim=-1)
    weights = scores.sub_(highest.amax(dim=1)[plan.owner].unsqueeze(-1)).exp_()
    sums = query.new_zeros(sequences, plan.most, heads)
    sums[plan.owner, plan.ordinal] = weights.sum(dim=-1)
    total = query.new_zeros(sequences, heads)
    for page_sum in sums.unbind(1):
        total += page_sum
    output = query.new_zeros(sequences, heads, pages[0][0].values.shape[1])
    flat_weights = iter(weights.unbind(0))
    for row, (*whole, last), used in zip(output.unbind(0), pages, plan.used, strict=True):
        for view in whole:
            row.addmm_(next(flat_weights), view.values.float())
        row.addmm_(next(flat_weights), last.summable_values(used))
    return output / total.unsqueeze(-1)


def _scores(query: Tensor, pages: Sequence[Sequence[PageView]], num_pages: int) -> Tensor:
    """Scores `[P, heads, 64]`, contiguous."""
    heads = query.shape[1]
    flipped = query.new_empty(num_pages, PAGE_TOKENS, heads)
    outputs = iter(flipped.unbind(0))
    for columns, views in zip(query.transpose(1, 2).unbind(0), pages, strict=True):
        for view in views:
            torch.mm(view.keys.float(), columns, out=next(outputs))
    return flipped.transpose(1, 2).contiguous()
