"""Chooses each token's experts: sigmoid scores, a bias for the choice only (noaux_tc), no groups."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TypeAlias

import torch
from torch import Tensor

from services.engine.model.config.text_config import TextConfig
from services.engine.model.layers.activation import sigmoid
from services.engine.model.layers.projection import Projection
from services.engine.model.layers.row_product import Products

Select: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""`[T, hidden]` -> experts int64 `[T, k]` (-1: another rank has it) and their weights float32 `[T, k]`."""


class ExpertRouter:
    """Top-k experts and their weights; `weight [experts, hidden]`, `bias [experts]`, computed in float32."""

    def __init__(self, weight: Tensor, bias: Tensor, config: TextConfig, products: Products) -> None:
        self.project = Projection(weight.float(), products)
        self.bias = bias.float().contiguous()
        self.top_k = config.num_experts_per_tok
        self.normalise = config.norm_topk_prob
        self.scale = config.routed_scaling_factor
        # The lower index comes first among equal scores.
        self._among_equals = torch.arange(len(bias) - 1, -1, -1, device=bias.device)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, hidden]` -> experts int64 `[T, k]`, best first, and their weights float32 `[T, k]`."""
        return self.select(self.project(x.float()))

    def select(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """From gate logits `[T, experts]`: the biased scores choose, the unbiased ones are the weights.

        Among equal biased scores the lower index goes first.
        """
        scores = sigmoid(logits)
        experts = torch.topk(self._ranks(scores + self.bias), self.top_k, dim=-1).indices
        weights = scores.gather(-1, experts)
        if self.normalise:
            # Added one by one: torch does not promise the order of a reduction over so few columns.
            total = reduce(torch.add, weights.unbind(-1))
            weights = weights / (total + 1e-20).unsqueeze(-1)
        return experts, weights * self.scale

    def _ranks(self, scores: Tensor) -> Tensor:
        """int64 `[T, experts]` in the order of float32 `scores`, no two equal: topk does not specify which of
        equal values it takes, and this varies with the device and the number of columns.
        """
        # Read as integers, floats of one sign keep their order; flipping the lower bits of negative ones
        # reverses theirs. Adding zero turns -0 into +0.
        bits = (scores + 0.0).view(torch.int32)
        ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        return ordered.long() * scores.shape[-1] + self._among_equals


def among(router: ExpertRouter, mine: range) -> Select:
    """The router's choices as indices into `mine`; experts outside of it are -1."""

    def select(x: Tensor) -> tuple[Tensor, Tensor]:
        experts, weights = router(x)
        elsewhere = (experts < mine.start) | (experts >= mine.stop)
        return (experts - mine.start).masked_fill(elsewhere, -1), weights

    return select
