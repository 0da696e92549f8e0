"""Chooses each token's experts: sigmoid scores, and a bias for the choice only."""

from __future__ import annotations

import torch
from torch import Tensor


def select_experts(
    logits: Tensor, bias: Tensor, top_k: int, scale: float, normalise: bool = True
) -> tuple[Tensor, Tensor]:
    """From gate logits `[T, experts]`: the best int64 `[T, k]`, best first, and their weights `[T, k]`.

    Among equal biased scores the lower index goes first. Computes in the precision of logits.
    """
    scores = torch.sigmoid(logits)
    experts = torch.sort(scores + bias, dim=-1, descending=True, stable=True).indices[:, :top_k]
    weights = scores.gather(-1, experts)
    if normalise:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return experts, weights * scale
