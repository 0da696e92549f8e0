"""Weights rounded as the int4 format stores them, with gradients as if they were not rounded."""

from __future__ import annotations

import torch
from torch import Tensor

from services.engine.model.config.quantization import GROUP_SIZE

HIGHEST = 7


def group_scales(weight: Tensor) -> Tensor:
    """bf16 `[..., out, in / 32]`: the scale that maps the largest value of a group to 7. A group of zeros
    gets the scale 1.
    """
    highest = weight.unflatten(-1, (-1, GROUP_SIZE)).abs().amax(dim=-1)
    return torch.where(highest > 0, highest / HIGHEST, torch.ones_like(highest)).to(torch.bfloat16)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers from -8 to 7 in the weight's shape, and the scales of `group_scales`."""
    scales = group_scales(weight)
    groups = weight.unflatten(-1, (-1, GROUP_SIZE)) / scales.to(weight.dtype).unsqueeze(-1)
    return groups.round().clamp(-HIGHEST - 1, HIGHEST).flatten(-2), scales


def quantised(weight: Tensor) -> Tensor:
    """The value that the packed weight represents; its gradient is the gradient of the weight."""
    with torch.no_grad():
        values, scales = quantise(weight)
        groups = values.unflatten(-1, (-1, GROUP_SIZE)) * scales.to(weight.dtype).unsqueeze(-1)
        stored = groups.flatten(-2)
    through: Tensor = weight + (stored - weight).detach()
    return through
