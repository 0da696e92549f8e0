"""Latent attention of chunks of new tokens in the expanded form: keys and values of every head."""

from __future__ import annotations

import torch
from torch import Tensor


def mla_prefill(
    query: Tensor,
    key: Tensor,
    key_rope: Tensor,
    value: Tensor,
    query_starts: list[int],
    key_starts: list[int],
    context_lens: list[int],
    scale: float,
) -> Tensor:
    """`query [T, heads, nope + rope]`, `key [S, heads, nope]`, `key_rope [S, rope]`, `value [S, heads, v]` ->
    `[T, heads, v]`, in the precision of query.

    Sequence b has the rows query_starts[b] to query_starts[b + 1] of query, the last of its context_lens[b]
    tokens, whose keys and values begin at row key_starts[b]. Each token sees itself and all earlier ones.
    """
    out = query.new_zeros(*query.shape[:2], value.shape[2])
    for index, (first, length) in enumerate(zip(key_starts, context_lens, strict=True)):
        rows = slice(query_starts[index], query_starts[index + 1])
        count = rows.stop - rows.start
        context = slice(first, first + length)
        shared = key_rope[context].unsqueeze(1).expand(-1, query.shape[1], -1)
        keys = torch.cat([key[context], shared], dim=-1).to(query.dtype)
        scores = torch.einsum("qhd,khd->hqk", query[rows], keys) * scale
        hidden = torch.ones(count, length, dtype=torch.bool, device=query.device).triu(length - count + 1)
        weights = torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1)
        out[rows] = torch.einsum("hqk,khd->qhd", weights, value[context].to(query.dtype))
    return out
