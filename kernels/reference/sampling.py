"""Chooses a token from logits and a counter: an inverse CDF over the tokens in descending order."""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF


def uniform(seed: int, choice: int, position: int) -> float:
    """The draw in [0, 1) of output token `position` of a choice: Philox4x32-10 keyed by the seed.

    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.
    """
    c0, c1, c2, c3 = position & _WORD, position >> 32, choice, 0
    k0, k1 = seed & _WORD, seed >> 32
    for _ in range(10):
        left, right = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (right >> 32) ^ c1 ^ k0, right & _WORD, (left >> 32) ^ c3 ^ k1, left & _WORD
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return ((c0 << 32 | c1) >> 11) * 2.0**-53


def draw_token(row: Tensor, temperature: float, top_k: int, top_p: float, min_p: float, draw: float) -> int:
    """The token that `draw` selects from softmax(`row [V]` / temperature), filtered; the best one at 0.

    Among equal logits the lower index goes first. Computes in float64.
    """
    values, ids = torch.sort(row, descending=True, stable=True)
    if temperature == 0.0:
        return int(ids[0])
    weights = torch.exp((values.double() - values[0].double()) / temperature)
    weights = weights[: top_k or None]
    before = weights.cumsum(0) - weights
    kept = (weights >= min_p) & (weights > 0.0)
    if top_p < 1.0:
        kept &= before < top_p * weights.sum()
    weights = weights[: int(kept.sum())]
    place = int((weights.cumsum(0) <= draw * weights.sum()).sum())
    return int(ids[min(place, len(weights) - 1)])
