"""Latent attention of one new token per sequence over the paged cache, in the absorbed form."""

from __future__ import annotations

import torch
from torch import Tensor


def mla_decode(
    query: Tensor, pages: Tensor, page_table: Tensor, context_lens: Tensor, scale: float, latent: int
) -> Tensor:
    """`query [B, heads, latent + rope]` over `pages [P, 64, latent + rope]` -> `[B, heads, latent]`.

    Sequence b attends to the first context_lens[b] tokens of the pages page_table[b]. Computes in the
    precision of query, which may be float64; a sequence without context gives zeros.
    """
    out = query.new_zeros(*query.shape[:2], latent)
    for index, length in enumerate(context_lens.tolist()):
        if length:
            needed = -(-length // pages.shape[1])
            keys = pages[page_table[index, :needed].long()].flatten(0, 1)[:length].to(query.dtype)
            weights = torch.softmax(query[index] @ keys.T * scale, dim=-1)
            out[index] = weights @ keys[:, :latent]
    return out
