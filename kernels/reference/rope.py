"""Rotary embedding on interleaved pairs, with tables of YaRN's angles."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (2j, 2j + 1) of `x [T, heads, dim]` by the angles of int64 `positions [T]`.

    `cos` and `sin` are float32 `[max_positions, dim / 2]`. Computes in float32, rounds once to x's dtype.
    """
    turn_cos, turn_sin = cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    turned = torch.stack([even * turn_cos - odd * turn_sin, odd * turn_cos + even * turn_sin], dim=-1)
    return turned.flatten(-2).to(x.dtype)
