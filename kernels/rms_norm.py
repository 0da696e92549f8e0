"""Root-mean-square normalisation, with or without the addition of a residual before it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import require


@triton.jit
def rms_norm_kernel(
    x: tl.tensor,
    residual: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    x_stride: int,
    eps: float,
    width: tl.constexpr,
    block: tl.constexpr,
    add: tl.constexpr,
) -> None:
    """One row per program, so its sums never depend on the other rows."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, block)
    inside = lane < width
    wide = tl.load(x + row * x_stride + lane, mask=inside, other=0.0).to(tl.float32)
    if add:
        wide += tl.load(residual + row * width + lane, mask=inside, other=0.0).to(tl.float32)
        # Normalises the sum as it is stored.
        total = wide.to(residual.dtype.element_ty)
        tl.store(residual + row * width + lane, total, mask=inside)
        wide = total.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, axis=0) / width + eps)
    # Rounded before the weight, as the published model does it.
    normed = (wide * scale).to(out.dtype.element_ty).to(tl.float32)
    factor = tl.load(weight + lane, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + lane, normed * factor, mask=inside)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight: `[T, width]` -> `[T, width]`, contiguous, in x's dtype.

    x's rows may be part of a wider tensor. Deterministic.
    """
    return _launch(x, None, weight, eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Adds x to `residual [T, width]`, contiguous, in place; returns the norm of the sum. Deterministic."""
    require(residual.shape == x.shape, f"residual {tuple(residual.shape)} differs from x {tuple(x.shape)}")
    require(residual.is_contiguous(), "residual is not contiguous")
    require(residual.dtype == x.dtype, f"residual is {residual.dtype}, x is {x.dtype}")
    return _launch(x, residual, weight, eps)


def _launch(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    rows, width = x.shape
    require(x.stride(1) == 1, "the rows of x are not contiguous")
    require(weight.shape == (width,), f"weight {tuple(weight.shape)} does not fit rows of {width}")
    out = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    if rows:
        rms_norm_kernel[(rows,)](
            x,
            out if residual is None else residual,
            weight.contiguous(),
            out,
            x.stride(0),
            eps,
            width=width,
            block=triton.next_power_of_2(width),
            add=residual is not None,
            num_warps=warps_for(width),
        )
    return out


def warps_for(width: int) -> int:
    """Warps per row: at most 32 elements per thread, and no idle warps in short rows."""
    block: int = triton.next_power_of_2(width)
    return min(max(block // 1024, 1), 8)
