"""Chooses each token's experts and their weights from gate logits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import require


@triton.jit
def select_experts_kernel(
    logits: tl.tensor,
    bias: tl.tensor,
    experts: tl.tensor,
    weights: tl.tensor,
    scale: float,
    num_experts: tl.constexpr,
    top_k: tl.constexpr,
    block: tl.constexpr,
    block_k: tl.constexpr,
    normalise: tl.constexpr,
) -> None:
    """One token per program: takes its best expert top_k times."""
    token = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, block)
    inside = lane < num_experts
    logit = tl.load(logits + token * num_experts + lane, mask=inside, other=0.0)
    score = 1.0 / (1.0 + tl.exp(-logit))
    choice = score + tl.load(bias + lane, mask=inside, other=0.0)
    # NaN must lead neither to an invalid expert nor twice to the same one.
    lowest: tl.constexpr = -3.4028234663852886e38
    choice = tl.where(choice > lowest, choice, lowest)
    choice = tl.where(inside, choice, float("-inf"))
    place = tl.arange(0, block_k)
    chosen = tl.zeros((block_k,), tl.int32)
    weight = tl.zeros((block_k,), tl.float32)
    total = 0.0
    for rank in tl.static_range(top_k):
        # argmax returns the lowest index among equal values.
        best = tl.argmax(choice, axis=0)
        value = tl.sum(tl.where(lane == best, score, 0.0), axis=0)
        total += value
        chosen = tl.where(place == rank, best, chosen)
        weight = tl.where(place == rank, value, weight)
        choice = tl.where(lane == best, float("-inf"), choice)
    if normalise:
        weight = weight / (total + 1e-20)
    weight = weight * scale
    kept = place < top_k
    tl.store(experts + token * top_k + place, chosen, mask=kept)
    tl.store(weights + token * top_k + place, weight, mask=kept)


def select_experts(
    logits: Tensor, bias: Tensor, top_k: int, scale: float, normalise: bool = True
) -> tuple[Tensor, Tensor]:
    """float32 `logits [T, experts]`, `bias [experts]` -> int32 `[T, k]`, best first, float32 `[T, k]`.

    Scores are sigmoid(logits). The biased scores choose, the lower index first among equal ones; the weights
    are the plain scores, divided by their sum (normalise) and multiplied by scale. NaN is chosen last.
    Deterministic.
    """
    tokens, num_experts = logits.shape
    require(
        logits.dtype == bias.dtype == torch.float32, f"{logits.dtype} logits, {bias.dtype} bias: not float32"
    )
    require(bias.shape == (num_experts,), f"bias {tuple(bias.shape)} for {num_experts} experts")
    require(0 < top_k <= num_experts, f"top {top_k} of {num_experts} experts")
    require(logits.is_contiguous(), "logits are not contiguous")
    experts = torch.empty(tokens, top_k, dtype=torch.int32, device=logits.device)
    weights = torch.empty(tokens, top_k, dtype=torch.float32, device=logits.device)
    if tokens:
        select_experts_kernel[(tokens,)](
            logits,
            bias,
            experts,
            weights,
            scale,
            num_experts=num_experts,
            top_k=top_k,
            block=triton.next_power_of_2(num_experts),
            block_k=triton.next_power_of_2(top_k),
            normalise=normalise,
            num_warps=1,
        )
    return experts, weights
