"""Random inputs for cases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.benchmarks.sizes import Sizes
from kernels.reference.experts import dequantise


def normal(*shape: int, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Standard normal values, generated in this dtype."""
    return torch.randn(*shape, device=device, dtype=dtype)


def make_angles(sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 `[max_positions, rope / 2]`."""
    frequencies = 50000.0 ** (-torch.arange(0, sizes.rope, 2, device=device) / sizes.rope)
    angles = torch.outer(torch.arange(sizes.max_positions, device=device).float(), frequencies)
    return angles.cos(), angles.sin()


def choose_experts(tokens: int, sizes: Sizes, device: torch.device) -> Tensor:
    """int32 `[tokens, top_k]`: distinct experts for a token, all equally likely."""
    draws = torch.rand(tokens, sizes.num_experts, device=device)
    return draws.topk(sizes.top_k, dim=-1).indices.to(torch.int32)


class PackedExperts:
    """Random `[E, parts, out, in]` in the published int4 format; item e is expert e's in float32."""

    def __init__(self, num_experts: int, parts: int, outputs: int, inputs: int, device: torch.device) -> None:
        words, groups = (num_experts, parts, outputs, inputs // 8), inputs // 32
        self.packed = torch.randint(-(2**31), 2**31 - 1, words, dtype=torch.int32, device=device)
        # With these scales, outputs are about as large as inputs.
        self.scales = normal(*words[:3], groups, device=device).abs_().mul_(0.2 * inputs**-0.5)

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, expert: int) -> Tensor:
        return dequantise(self.packed[expert], self.scales[expert].float())


@dataclass(frozen=True)
class DecodeInputs:
    """query: bfloat16 `[B, H, latent + rope]`; pages: bfloat16 `[P, 64, latent + rope]`; tables: int32
    `[copies, B, columns]` of page numbers; context_lens: int32 `[B]`.
    """

    query: Tensor
    pages: Tensor
    tables: Tensor
    context_lens: Tensor
    scale: float
    latent: int


@dataclass(frozen=True)
class ExpertInputs:
    """x: bfloat16 `[T, hidden]`; experts: int32 `[T, top_k]` per copy; weights: float32 `[T, top_k]`."""

    x: Tensor
    experts: list[Tensor]
    weights: Tensor
