"""Rotary embedding of queries, on interleaved pairs."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import require


@triton.jit
def turn_pairs(x: tl.tensor, cos: tl.tensor, sin: tl.tensor) -> tl.tensor:
    """Rotates each pair (2j, 2j + 1) of `x [rows, 2 pairs]` by the angle of `cos`, `sin [1 or rows, pairs]`.

    Computes in float32.
    """
    rows: tl.constexpr = x.shape[0]
    width: tl.constexpr = x.shape[1]
    even, odd = tl.split(tl.reshape(x.to(tl.float32), (rows, width // 2, 2)))
    turned = tl.join(even * cos - odd * sin, odd * cos + even * sin)
    return tl.reshape(turned, (rows, width))


@triton.jit
def rotate_kernel(
    x: tl.tensor,
    out: tl.tensor,
    positions: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    x_token_stride: int,
    x_head_stride: int,
    out_token_stride: int,
    out_head_stride: int,
    heads: tl.constexpr,
    dim: tl.constexpr,
    block_heads: tl.constexpr,
) -> None:
    """One token per program, some of its heads at a time."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * block_heads + tl.arange(0, block_heads)
    lane = tl.arange(0, dim)
    inside = head[:, None] < heads
    value = tl.load(x + token * x_token_stride + head[:, None] * x_head_stride + lane, mask=inside, other=0.0)
    pair = tl.load(positions + token) * (dim // 2) + tl.arange(0, dim // 2)
    turned = turn_pairs(value, tl.load(cos + pair)[None, :], tl.load(sin + pair)[None, :])
    tl.store(out + token * out_token_stride + head[:, None] * out_head_stride + lane, turned, mask=inside)


def rotate(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Writes `x [T, heads, dim]`, rotated by the angles of int64 `positions [T]`, into `out` of its shape.

    Both may be parts of wider tensors, and be the same one. `cos` and `sin` are float32 `[max_positions, dim
    / 2]`; dim is a power of two. Computes in float32. Deterministic.
    """
    tokens, heads, dim = x.shape
    require(out.shape == x.shape, f"out {tuple(out.shape)} differs from x {tuple(x.shape)}")
    require(x.stride(2) == out.stride(2) == 1, "the vectors of x and out are not contiguous")
    check_angles(positions, cos, sin, tokens, dim)
    block_heads = min(triton.next_power_of_2(heads), 16)
    if tokens:
        rotate_kernel[(tokens, triton.cdiv(heads, block_heads))](
            x,
            out,
            positions,
            cos,
            sin,
            x.stride(0),
            x.stride(1),
            out.stride(0),
            out.stride(1),
            heads=heads,
            dim=dim,
            block_heads=block_heads,
            num_warps=1,
        )


def check_angles(positions: Tensor, cos: Tensor, sin: Tensor, tokens: int, dim: int) -> None:
    """Checks that positions and tables fit `tokens` vectors of `dim` values."""
    require(positions.shape == (tokens,), f"{tuple(positions.shape)} positions for {tokens} tokens")
    fits = cos.shape == sin.shape and cos.shape[1] == dim // 2
    require(fits, f"tables {tuple(cos.shape)}, {tuple(sin.shape)} do not fit vectors of {dim}")
    require(cos.is_contiguous() and sin.is_contiguous(), "the tables are not contiguous")
