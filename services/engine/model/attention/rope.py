"""Rotary position embedding with YaRN's stretched frequencies, on interleaved pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from services.engine.model.config.text_config import TextConfig
from services.engine.model.config.yarn import YarnScaling


def yarn_mscale(factor: float, mscale: float) -> float:
    """0.1 mscale ln(factor) + 1, or 1 if nothing is stretched (YaRN, section 3.4)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1.0 else 1.0


def correction_range(dim: int, theta: float, scaling: YarnScaling) -> tuple[int, int]:
    """The pair indices between which frequencies blend: those that turn beta_fast and beta_slow times."""

    def index_turning(rotations: float) -> float:
        length = scaling.original_max_position_embeddings
        return dim * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = math.floor(index_turning(scaling.beta_fast))
    high = math.ceil(index_turning(scaling.beta_slow))
    return max(low, 0), min(high, dim - 1)


def inverse_frequencies(dim: int, theta: float, scaling: YarnScaling | None) -> Tensor:
    """float32 `[dim / 2]`: theta^(-2j/dim), divided by the factor for pairs that turn too slowly to be
    learnt.

    Computed in float32 throughout, as in every published implementation: at position 4,000 the rounding of a
    frequency is an angle of 3e-4, and the weights were trained with these angles, not with exact ones.
    """
    powers = theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    plain = 1.0 / powers
    if scaling is None:
        return plain
    low, high = correction_range(dim, theta, scaling)
    # Equal ends would divide by zero: this puts the step just above `low`.
    width = max(high - low, 0.001)
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / width).clamp(0.0, 1.0)
    kept = 1.0 - ramp
    return 1.0 / (scaling.factor * powers) * (1.0 - kept) + plain * kept


def softmax_scale(config: TextConfig) -> float:
    """head_dim^-0.5, times YaRN's mscale_all_dim factor squared."""
    scale: float = config.qk_head_dim**-0.5
    if config.rope_scaling is not None:
        scale *= yarn_mscale(config.rope_scaling.factor, config.rope_scaling.mscale_all_dim) ** 2
    return scale


class RotaryEmbedding:
    """Tables of cos and sin for every position of the context, float32 `[max_positions, rope_dim / 2]`."""

    def __init__(self, config: TextConfig, device: torch.device | str = "cpu") -> None:
        scaling = config.rope_scaling
        frequencies = inverse_frequencies(config.qk_rope_head_dim, config.rope_theta, scaling)
        positions = torch.arange(config.max_position_embeddings, dtype=torch.float32)
        angles = torch.outer(positions, frequencies)
        scale = 1.0
        if scaling is not None:
            scale = yarn_mscale(scaling.factor, scaling.mscale) / yarn_mscale(
                scaling.factor, scaling.mscale_all_dim
            )
        self.cos = (angles.cos() * scale).to(device)
        self.sin = (angles.sin() * scale).to(device)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of int64 `[T]` positions: cos and sin, each `[T, rope_dim / 2]`."""
        return self.cos[positions], self.sin[positions]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (2j, 2j + 1) of the last dimension by the angle of j; pairs stay where they are.

    `x` is `[T, ..., rope_dim]`, `cos` and `sin` broadcast against `[T, ..., rope_dim / 2]`. Computes in
    float32.
    """
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return turned.flatten(-2).to(x.dtype)
