"""The dense and the mixture-of-experts feed-forward of a layer on the kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kernels.expert_weights import ExpertMatrices
from kernels.experts import RoutedExperts
from kernels.router import select_experts
from kernels.silu_mul import silu_mul
from services.engine.model.config.text_config import TextConfig
from services.engine.model.layers.projection import Projection
from services.engine.model.layers.row_product import Products
from services.engine.model.prefixed_weights import PrefixedWeights
from services.engine.model.rank import ALONE, Rank


class KernelMLP:
    """down(silu(gate x) * up x), with gate and up as one product."""

    def __init__(self, weights: Mapping[str, Tensor], products: Products) -> None:
        self._gate_up = Projection(weights["gate_proj.weight"], products, weights["up_proj.weight"])
        self._down = Projection(weights["down_proj.weight"], products)

    def __call__(self, x: Tensor) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        return self._down(silu_mul(self._gate_up(x)))


class KernelMixture:
    """sum_k w_k expert_k(x) + shared(x), over the weights that `rank` has. Experts that the checkpoint packs
    as int4 stay packed, laid out once for the kernel.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        config: TextConfig,
        products: Products,
        deterministic: bool,
        rank: Rank = ALONE,
    ) -> None:
        # In float32 as on the CPU: rounded scores would choose other experts.
        self._gate = Projection(weights["gate.weight"].float(), products)
        self._bias = weights["gate.e_score_correction_bias"].float()
        self._top_k = config.num_experts_per_tok
        self._scale = config.routed_scaling_factor
        self._normalise = config.norm_topk_prob
        mine = rank.experts(config.n_routed_experts)
        experts = [PrefixedWeights(weights, f"experts.{index}.") for index in mine]
        self._experts = RoutedExperts(*expert_matrices(experts), deterministic, mine.start)
        self._shared = KernelMLP(PrefixedWeights(weights, "shared_experts."), products)

    def __call__(self, x: Tensor) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        logits = self._gate(x.float())
        experts, weights = select_experts(logits, self._bias, self._top_k, self._scale, self._normalise)
        return self._experts(x, experts, weights, self._shared(x))


def expert_matrices(experts: Sequence[Mapping[str, Tensor]]) -> tuple[ExpertMatrices, ExpertMatrices]:
    """Gate and up, then down, of all experts; int4 if the first one's are packed.

    Reads each tensor once, expert by expert, which is their order in the checkpoint.
    """
    packed = "gate_proj.weight_packed" in experts[0]
    parts = ("weight_packed", "weight_scale") if packed else ("weight",)
    stacks: dict[tuple[str, str], Tensor] = {}
    for index, expert in enumerate(experts):
        for name in _PLACES:
            for part in parts:
                _put(expert[f"{name}.{part}"], index, len(experts), name, part, stacks)
    make = ExpertMatrices.int4 if packed else ExpertMatrices.plain
    # pop() frees the checkpoint's layout as soon as the kernel's is made.
    gate_up = make(*(stacks.pop(("gate_up", part)) for part in parts))
    return gate_up, make(*(stacks.pop(("down", part)) for part in parts))


def _put(
    tensor: Tensor, expert: int, experts: int, name: str, part: str, stacks: dict[tuple[str, str], Tensor]
) -> None:
    stack, place, places = _PLACES[name]
    if (stack, part) not in stacks:
        dtype = torch.bfloat16 if part == "weight_scale" else tensor.dtype
        stacks[stack, part] = tensor.new_empty(experts, places, *tensor.shape, dtype=dtype)
    stacks[stack, part][expert, place] = tensor


_PLACES = {"gate_proj": ("gate_up", 0, 2), "up_proj": ("gate_up", 1, 2), "down_proj": ("down", 0, 1)}
"""For each projection: its stack of matrices, its index in an expert's part of it, and that part's length."""
