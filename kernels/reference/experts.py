"""Routed experts: int4 weights in the published format, SwiGLU, and the weighted sum."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Matrices(Protocol):
    """Experts' matrices `[E, parts, out, in]`, or something that makes them one expert at a time."""

    def __len__(self) -> int:
        """E."""

    def __getitem__(self, expert: int, /) -> Tensor:
        """`[parts, out, in]`."""


def dequantise(packed: Tensor, scales: Tensor) -> Tensor:
    """int32 `[..., out, in / 8]`, lowest nibble first, and scales `[..., out, in / 32]` -> `[..., out, in]`.

    In the scales' dtype, rounded once.
    """
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=packed.device)
    values = (((packed.unsqueeze(-1) >> shifts) & 15) - 8).flatten(-2)
    wide = values.float() * scales.float().repeat_interleave(32, dim=-1)
    return wide.to(scales.dtype)


def apply_experts(
    x: Tensor,
    experts: Tensor,
    weights: Tensor,
    gate_up: Matrices,
    down: Matrices,
    shared: Tensor | None = None,
) -> Tensor:
    """sum_k w_k down(silu(gate x) * up x), plus shared: `x [T, hidden]` -> `[T, hidden]`, in x's precision.

    experts, weights `[T, k]`; gate_up `[E, 2, width, hidden]`, down `[E, 1, hidden, width]` in any dtype.
    Skips experts that are not below E.
    """
    out = torch.zeros_like(x) if shared is None else shared.to(x.dtype, copy=True)
    for expert in experts.unique().tolist():
        if 0 <= expert < len(gate_up):
            tokens, ranks = (experts == expert).nonzero(as_tuple=True)
            gate, up = (x[tokens] @ matrix.to(x.dtype).T for matrix in gate_up[expert].unbind())
            result = (torch.nn.functional.silu(gate) * up) @ down[expert][0].to(x.dtype).T
            out.index_add_(0, tokens, result * weights[tokens, ranks].to(x.dtype).unsqueeze(-1))
    return out
