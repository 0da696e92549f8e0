"""One decoder layer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from services.engine.model.attention import AttentionContext, LatentAttention
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
    ) -> None:
        self._index = index
        self._group = group
        self._input_norm = RMSNorm(weights["input_layernorm.weight"], config.rms_norm_eps)
        self._attention = LatentAttention(
            WeightsBelow(weights, "self_attn."), config, products, attention, inner_eps
        )
        self._post_norm = RMSNorm(weights["post_attention_layernorm.weight"], config.rms_norm_eps)
        mlp = WeightsBelow(weights, "mlp.")
        dense = config.is_dense(index)
        self._feed_forward = gated_mlp(mlp, products) if dense else mixture(mlp, config, products)

    def __call__(self, x: Tensor, context: AttentionContext) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        x = x + self._group.sum(self._attention(self._input_norm(x), self._index, context))
        return x + self._group.sum(self._feed_forward(self._post_norm(x)))


def gated_mlp(weights: Mapping[str, Tensor], products: Products) -> GatedMLP:
    """From gate_proj, up_proj and down_proj."""
    return GatedMLP(
        weights["gate_proj.weight"], weights["up_proj.weight"], weights["down_proj.weight"], products
    )


def mixture(weights: Mapping[str, Tensor], config: TextConfig, products: Products) -> MixtureOfExperts:
    """From the gate, the experts and the shared expert."""
    router = Router(weights["gate.weight"], weights["gate.e_score_correction_bias"], config, products)
    experts = [
        gated_mlp(WeightsBelow(weights, f"experts.{index}."), products)
        for index in range(config.n_routed_experts)
    ]
    return MixtureOfExperts(router, experts, gated_mlp(WeightsBelow(weights, "shared_experts."), products))
