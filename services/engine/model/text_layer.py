"""One decoder layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from services.engine.model.attention import AttentionContext, LatentAttention
from services.engine.model.compiled_products import CompiledMixture, CompiledProducts
from services.engine.model.compiled_rows import CompiledRows
from services.engine.model.config import TextConfig
from services.engine.model.mlp import GatedMLP
from services.engine.model.moe import MixtureOfExperts
from services.engine.model.norm import RMSNorm
from services.engine.model.paged_attention import PagedAttention
from services.engine.model.router import Router
from services.engine.model.row_product import Products
from services.engine.model.tensor_group import TensorGroup
from services.engine.model.weights_below import WeightsBelow


class TextLayer:
    """x + attention(norm(x)), then x + feed_forward(norm(x)); `weights` are named as below ``layers.N.``.

    Heads and widths are this rank's; what the ranks of `group` add to the residual stream is added up.
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
        self._input_norm = RMSNorm(weights["input_layernorm.weight"], config.rms_norm_eps, rows)
        self._attention = LatentAttention(
            WeightsBelow(weights, "self_attn."), config, products, attention, inner_eps, rows
        )
        self._post_norm = RMSNorm(weights["post_attention_layernorm.weight"], config.rms_norm_eps, rows)
        mlp = WeightsBelow(weights, "mlp.")
        dense = config.is_dense(index)
        self._feed_forward = gated_mlp(mlp, products) if dense else mixture(mlp, config, products)

    def __call__(self, x: Tensor, context: AttentionContext) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        x = x + self._group.sum(self._attention(self._input_norm(x), self._index, context))
        return x + self._group.sum(self._feed_forward(self._post_norm(x)))


FeedForward = Callable[[Tensor], Tensor]


def gated_mlp(weights: Mapping[str, Tensor], products: Products) -> FeedForward:
    """From gate_proj, up_proj and down_proj."""
    parts = _mlp_weights(weights)
    if isinstance(products, CompiledProducts):
        return products.gated_mlp(*parts)
    return GatedMLP(*parts, products)


def mixture(weights: Mapping[str, Tensor], config: TextConfig, products: Products) -> FeedForward:
    """From the gate, the experts and the shared expert."""
    router = Router(weights["gate.weight"], weights["gate.e_score_correction_bias"], config, products)
    experts = [WeightsBelow(weights, f"experts.{index}.") for index in range(config.n_routed_experts)]
    shared = WeightsBelow(weights, "shared_experts.")
    if isinstance(products, CompiledProducts):
        routed = products.experts(map(_mlp_weights, experts), len(experts))
        return CompiledMixture(router, routed, products.gated_mlp(*_mlp_weights(shared)))
    mlps = [GatedMLP(*_mlp_weights(expert), products) for expert in experts]
    return MixtureOfExperts(router, mlps, GatedMLP(*_mlp_weights(shared), products))


def _mlp_weights(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return weights["gate_proj.weight"], weights["up_proj.weight"], weights["down_proj.weight"]
