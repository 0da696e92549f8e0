"""One decoder layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from services.engine.model.attention.attention_share import AttentionShare
from services.engine.model.attention.layer import LatentAttention
from services.engine.model.attention.paged_attention import PagedAttention
from services.engine.model.config.text_config import TextConfig
from services.engine.model.layers.compiled_products import CompiledMixture, CompiledProducts
from services.engine.model.layers.compiled_router import CompiledRouter
from services.engine.model.layers.compiled_rows import CompiledRows
from services.engine.model.layers.mlp import GatedMLP
from services.engine.model.layers.moe import MixtureOfExperts
from services.engine.model.layers.norm import RMSNorm
from services.engine.model.layers.router import ExpertRouter, among
from services.engine.model.layers.row_product import Products
from services.engine.model.prefixed_weights import PrefixedWeights
from services.engine.model.rank import ALONE, Rank
from services.engine.model.tensor_group import TensorGroup


class TextLayer:
    """x + attention(norm(x)), then x + feed_forward(norm(x)); names in `weights` lack ``layers.N.``.

    Heads and widths are this rank's; the ranks of `group` sum what they add to the residual stream.
    """

    def __init__(
        self,
        index: int,
        weights: Mapping[str, Tensor],
        config: TextConfig,
        products: Products,
        attention: PagedAttention,
        inner_eps: float,
        group: TensorGroup,
        rows: CompiledRows | None = None,
    ) -> None:
        self._index = index
        self._group = group
        self.input_norm = RMSNorm(weights["input_layernorm.weight"], config.rms_norm_eps, rows)
        self.attention = LatentAttention(
            PrefixedWeights(weights, "self_attn."), config, products, attention, inner_eps, rows
        )
        self.post_norm = RMSNorm(weights["post_attention_layernorm.weight"], config.rms_norm_eps, rows)
        mlp = PrefixedWeights(weights, "mlp.")
        dense = config.is_dense(index)
        self.feed_forward = gated_mlp(mlp, products) if dense else mixture(mlp, config, products, group.rank)

    def __call__(self, x: Tensor, share: AttentionShare) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        x = x + self._group.sum(self._attend(self.input_norm(x), share))
        return x + self._group.sum(self.feed_forward(self.post_norm(x)))

    def _attend(self, x: Tensor, share: AttentionShare) -> Tensor:
        """Attention of this rank's tokens; zeros for those that other ranks attend for."""
        if share.rows is None:
            assert share.context is not None
            return self.attention(x, self._index, share.context)
        output = torch.zeros_like(x)
        if share.context is not None:
            output[share.rows] = self.attention(x[share.rows], self._index, share.context)
        return output


FeedForward = Callable[[Tensor], Tensor]


def gated_mlp(weights: Mapping[str, Tensor], products: Products) -> FeedForward:
    """Builds an MLP from gate_proj, up_proj and down_proj."""
    parts = _mlp_weights(weights)
    if isinstance(products, CompiledProducts):
        return products.gated_mlp(*parts)
    return GatedMLP(*parts, products)


def mixture(
    weights: Mapping[str, Tensor], config: TextConfig, products: Products, rank: Rank = ALONE
) -> FeedForward:
    """Builds a mixture of experts from the gate, the rank's experts and the shared expert."""
    kind = CompiledRouter if isinstance(products, CompiledProducts) else ExpertRouter
    router = kind(weights["gate.weight"], weights["gate.e_score_correction_bias"], config, products)
    mine = rank.experts(config.n_routed_experts)
    select = router if len(mine) == config.n_routed_experts else among(router, mine)
    experts = [PrefixedWeights(weights, f"experts.{index}.") for index in mine]
    shared = PrefixedWeights(weights, "shared_experts.")
    if isinstance(products, CompiledProducts):
        routed = products.experts(map(_mlp_weights, experts), len(experts))
        return CompiledMixture(select, routed, products.gated_mlp(*_mlp_weights(shared)))
    mlps = [GatedMLP(*_mlp_weights(expert), products) for expert in experts]
    return MixtureOfExperts(select, mlps, GatedMLP(*_mlp_weights(shared), products))


def _mlp_weights(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return weights["gate_proj.weight"], weights["up_proj.weight"], weights["down_proj.weight"]
