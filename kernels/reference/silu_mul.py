"""The elementwise half of SwiGLU."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import silu


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(left half) * right half of `[T, 2 width]` -> `[T, width]`, computed in float32, rounded once."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    return (silu(gate) * up).to(gate_up.dtype)
