"""Tables of YaRN's angles for few positions."""

from __future__ import annotations

import torch
from torch import Tensor


def make_angles(max_positions: int, dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 `[max_positions, dim / 2]`; which frequencies they are of makes no difference."""
    frequencies = 50000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angles = torch.outer(torch.arange(max_positions, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()
