"""Writes new tokens into the KV cache: normalises the latent and rotates the rope key on the way."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import require
from kernels.rope import check_angles, turn_pairs


@triton.jit
def store_latents_kernel(
    down: tl.tensor,
    weight: tl.tensor,
    positions: tl.tensor,
    slots: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    pages: tl.tensor,
    eps: float,
    down_stride: int,
    page_stride: int,
    latent: tl.constexpr,
    rope: tl.constexpr,
    page_tokens: tl.constexpr,
) -> None:
    """One token per program."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    if slot >= 0:
        row = down + token * down_stride
        entry = pages + (slot // page_tokens) * page_stride + (slot % page_tokens) * (latent + rope)
        lane = tl.arange(0, latent)
        value = tl.load(row + lane).to(tl.float32)
        scale = 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / latent + eps)
        normed = (value * scale).to(down.dtype.element_ty).to(tl.float32)
        tl.store(entry + lane, normed * tl.load(weight + lane).to(tl.float32))
        lane = tl.arange(0, rope)
        pair = tl.load(positions + token) * (rope // 2) + tl.arange(0, rope // 2)
        key = tl.load(row + latent + lane)[None, :]
        turned = turn_pairs(key, tl.load(cos + pair)[None, :], tl.load(sin + pair)[None, :])
        tl.store(entry + latent + lane[None, :], turned)


def store_latents(
    down: Tensor,
    weight: Tensor,
    eps: float,
    positions: Tensor,
    slots: Tensor,
    cos: Tensor,
    sin: Tensor,
    pages: Tensor,
) -> None:
    """Writes `down [T, latent + rope]` into `pages [P, page_tokens, latent + rope]`, which are one layer's.

    down: rows as kv_a_proj_with_mqa gives them; may be part of wider rows. weight `[latent]` and eps are
    kv_a_layernorm's; latent and rope are powers of two. slots int64 `[T]`: slot s is token s % page_tokens of
    page s // page_tokens; a negative one is skipped, which graphs use to pad a batch. pages: usually `pool[:,
    layer]`; each layer page must be contiguous. Offsets are 64-bit. Deterministic.
    """
    tokens, width = down.shape
    latent = len(weight)
    page_tokens = pages.shape[1]
    require(pages.shape[2] == width > latent, f"pages {tuple(pages.shape)} do not fit rows of {width}")
    require(pages.stride(1) == width and pages.stride(2) == 1, "a page is not contiguous")
    require(down.stride(1) == 1, "the rows of down are not contiguous")
    require(slots.shape == (tokens,), f"{tuple(slots.shape)} slots for {tokens} tokens")
    check_angles(positions, cos, sin, tokens, width - latent)
    if tokens:
        store_latents_kernel[(tokens,)](
            down,
            weight,
            positions,
            slots,
            cos,
            sin,
            pages,
            eps,
            down.stride(0),
            pages.stride(0),
            latent=latent,
            rope=width - latent,
            page_tokens=page_tokens,
            num_warps=1,
        )
