"""The elementwise half of SwiGLU, for the dense layer and the shared expert."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import require

_BLOCK = 1024


@triton.jit
def silu_mul_kernel(
    gate_up: tl.tensor, out: tl.tensor, row_stride: int, width: int, block: tl.constexpr
) -> None:
    """Part of a row per program."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * block + tl.arange(0, block)
    inside = lane < width
    source = gate_up + row * row_stride + lane
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + lane, gate / (1.0 + tl.exp(-gate)) * up, mask=inside)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(left half) * right half of `[T, 2 width]` -> `[T, width]`, contiguous, in its dtype.

    The rows may lie apart. Computes in float32, rounds once. Deterministic.
    """
    tokens, both = gate_up.shape
    require(both % 2 == 0, f"rows of {both} values have no halves")
    require(gate_up.stride(1) == 1, "the rows of gate_up are not contiguous")
    out = torch.empty(tokens, both // 2, dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        silu_mul_kernel[(tokens, triton.cdiv(both // 2, _BLOCK))](
            gate_up, out, gate_up.stride(0), both // 2, block=_BLOCK
        )
    return out
