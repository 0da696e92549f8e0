"""Draws a token per row: torch sorts, then a kernel filters and selects by a counter-based random number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import require

_BLOCK = 1024


@triton.jit
def philox_uniform(seed: tl.tensor, choice: tl.tensor, position: tl.tensor) -> tl.tensor:
    """Philox4x32-10: the same float64 in [0, 1) as the engine's, for int64 arguments read as unsigned.

    Words are kept in 64 bits, where products of two of them fit.
    """
    word: tl.constexpr = 0xFFFFFFFF
    c0 = position.to(tl.uint64) & word
    c1 = position.to(tl.uint64) >> 32
    c2 = choice.to(tl.uint64) & word
    c3 = c2 ^ c2
    k0 = seed.to(tl.uint64) & word
    k1 = seed.to(tl.uint64) >> 32
    for _ in tl.static_range(10):
        left = c0 * 0xD2511F53
        right = c2 * 0xCD9E8D57
        c0 = (right >> 32) ^ c1 ^ k0
        c1 = right & word
        c2 = (left >> 32) ^ c3 ^ k1
        c3 = left & word
        k0 = (k0 + 0x9E3779B9) & word
        k1 = (k1 + 0xBB67AE85) & word
    # 2 ** -53
    return (((c0 << 32) | c1) >> 11).to(tl.float64) * 1.1102230246251565e-16


@triton.jit
def load_weights(
    values: tl.tensor,
    start: tl.tensor,
    limit: tl.tensor,
    best: tl.tensor,
    temperature: tl.tensor,
    block: tl.constexpr,
) -> tl.tensor:
    """exp((value - best) / temperature) of a block in float64, 0 from `limit` on."""
    lane = start + tl.arange(0, block)
    value = tl.load(values + lane, mask=lane < limit, other=float("-inf")).to(tl.float64)
    return tl.exp((value - best) / temperature)


@triton.jit
def draw_kernel(
    values: tl.tensor,
    ids: tl.tensor,
    temperatures: tl.tensor,
    top_ks: tl.tensor,
    top_ps: tl.tensor,
    min_ps: tl.tensor,
    seeds: tl.tensor,
    choices: tl.tensor,
    positions: tl.tensor,
    out: tl.tensor,
    vocabulary: int,
    block: tl.constexpr,
) -> None:
    """One row per program. Adds blocks in order; most draws fall into the first one.

    The filters keep a prefix of the descending order, so every loop ends at the first block that is not kept
    whole.
    """
    row = tl.program_id(0).to(tl.int64)
    values += row * vocabulary
    temperature = tl.load(temperatures + row).to(tl.float64)
    place = 0
    if temperature > 0.0:
        best = tl.load(values).to(tl.float64)
        top_k = tl.load(top_ks + row)
        limit = tl.where(top_k > 0, tl.minimum(top_k, vocabulary), vocabulary)
        total = tl.zeros((), tl.float64)
        for start in range(0, limit, block):
            total += tl.sum(load_weights(values, start, limit, best, temperature, block), axis=0)

        top_p = tl.load(top_ps + row).to(tl.float64)
        bound = tl.where(top_p < 1.0, top_p * total, float("inf"))
        min_p = tl.load(min_ps + row).to(tl.float64)
        reached = tl.zeros((), tl.float64)
        mass = tl.zeros((), tl.float64)
        kept = 0
        start = 0
        end = limit
        while start < end:
            weight = load_weights(values, start, limit, best, temperature, block)
            before = reached + tl.cumsum(weight, axis=0) - weight
            keep = (weight >= min_p) & (weight > 0.0) & (before < bound)
            count = tl.sum(keep.to(tl.int32), axis=0)
            kept += count
            mass += tl.sum(tl.where(keep, weight, 0.0), axis=0)
            reached += tl.sum(weight, axis=0)
            start += block
            end = tl.where(count < block, start, end)

        draw = philox_uniform(tl.load(seeds + row), tl.load(choices + row), tl.load(positions + row))
        target = draw * mass
        reached = tl.zeros((), tl.float64)
        start = 0
        end = kept
        while start < end:
            weight = load_weights(values, start, limit, best, temperature, block)
            behind = reached + tl.cumsum(weight, axis=0) <= target
            count = tl.sum((behind & (start + tl.arange(0, block) < kept)).to(tl.int32), axis=0)
            place += count
            reached += tl.sum(weight, axis=0)
            start += block
            end = tl.where(count < block, start, end)
        # NaN keeps nothing; the result must still be a token.
        place = tl.maximum(tl.minimum(place, kept - 1), 0)
    tl.store(out + row, tl.load(ids + row * vocabulary + place))


@triton.jit
def uniform_kernel(seeds: tl.tensor, choices: tl.tensor, positions: tl.tensor, out: tl.tensor) -> None:
    """One draw per program."""
    row = tl.program_id(0)
    draw = philox_uniform(tl.load(seeds + row), tl.load(choices + row), tl.load(positions + row))
    tl.store(out + row, draw)


def draw_uniform(seeds: Tensor, choices: Tensor, positions: Tensor) -> Tensor:
    """float64 in [0, 1) `[B]` for int64 `[B]` arguments: the number that draws output token `position` of a
    choice.

    Seeds are 64-bit patterns. Deterministic.
    """
    out = torch.empty(len(seeds), dtype=torch.float64, device=seeds.device)
    if len(seeds):
        uniform_kernel[(len(seeds),)](seeds, choices, positions, out)
    return out


@dataclass(frozen=True)
class SamplingRows:
    """How each of B rows is drawn, `[B]` each, on the logits' device.

    float64 `temperature` (0: the best token), `top_p` (1: all), `min_p` (0: all), int32 `top_k` (0: all),
    int64 `seed` (a 64-bit pattern), `choice`, `position` of the token in the output.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seed: Tensor
    choice: Tensor
    position: Tensor


def sample(logits: Tensor, rows: SamplingRows) -> Tensor:
    """Draws a token of each row of float32 `logits [B, V]`, whose maximum must be finite -> int64 `[B]`.

    softmax(logits / temperature); top_k, top_p and min_p keep a prefix of the descending order, with the
    lower index first among equal logits; the token is the first whose cumulative mass exceeds the draw's
    share. Computes in float64. A row depends only on itself. Never waits for the GPU.
    """
    batch, vocabulary = logits.shape
    require(logits.dtype == torch.float32, f"logits are {logits.dtype}, not float32")
    sizes = {name: len(values) for name, values in vars(rows).items()}
    require(set(sizes.values()) == {batch}, f"rows of {sizes} for {batch} rows of logits")
    out = torch.empty(batch, dtype=torch.int64, device=logits.device)
    if batch:
        values, ids = torch.sort(logits, dim=-1, descending=True, stable=True)
        draw_kernel[(batch,)](
            values,
            ids,
            rows.temperature,
            rows.top_k,
            rows.top_p,
            rows.min_p,
            rows.seed,
            rows.choice,
            rows.position,
            out,
            vocabulary,
            block=_BLOCK,
        )
    return out
