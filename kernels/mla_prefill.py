"""Latent attention for prefill: ragged chunks of new tokens over their contexts, in the expanded form.

The caller gathers a layer's pages of a sequence (`kernels.page_copy`) and computes keys and values of every
head from them with kv_b_proj, for cached and new tokens alike; this module attends to them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import interpreted, require

_LOG2_E = 1.4426950408889634
# The same for every batch, because they fix the order of sums.
BLOCK_QUERIES, BLOCK_KEYS = 128, 64
NUM_WARPS, NUM_STAGES = 8, 2


@triton.jit
def attend_range(
    q_nope: tl.tensor,
    q_rope: tl.tensor,
    positions: tl.tensor,
    key: tl.tensor,
    key_rope: tl.tensor,
    value: tl.tensor,
    scale_log2: float,
    key_stride: int,
    rope_stride: int,
    value_stride: int,
    start: tl.tensor,
    end: tl.tensor,
    highest: tl.tensor,
    total: tl.tensor,
    mixed: tl.tensor,
    nope: tl.constexpr,
    rope: tl.constexpr,
    value_dim: tl.constexpr,
    block_keys: tl.constexpr,
    masked: tl.constexpr,
    upcast: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The running softmax after keys [start, end); `masked` if a query must not see all of them."""
    lane = tl.arange(0, block_keys)
    for first in range(start, end, block_keys):
        row = (first + lane).to(tl.int64)
        inside = row[:, None] < end
        k_at = key + row[:, None] * key_stride + tl.arange(0, nope)
        r_at = key_rope + row[:, None] * rope_stride + tl.arange(0, rope)
        v_at = value + row[:, None] * value_stride + tl.arange(0, value_dim)
        if masked:
            k = tl.load(k_at, mask=inside, other=0.0)
            r = tl.load(r_at, mask=inside, other=0.0)
            v = tl.load(v_at, mask=inside, other=0.0)
        else:
            k = tl.load(k_at)
            r = tl.load(r_at)
            v = tl.load(v_at)
        if upcast:
            k = k.to(tl.float32)
            r = r.to(tl.float32)
            v = v.to(tl.float32)
        scores = tl.dot(q_rope, tl.trans(r), input_precision="ieee")
        scores = tl.dot(q_nope, tl.trans(k), scores, input_precision="ieee")
        if masked:
            scores = tl.where(row[None, :] <= positions[:, None], scores, float("-inf"))
        raised = tl.maximum(highest, tl.max(scores, axis=1) * scale_log2)
        shrink = tl.exp2(highest - raised)
        weights = tl.exp2(scores * scale_log2 - raised[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        mixed = tl.dot(weights.to(v.dtype), v, mixed * shrink[:, None], input_precision="ieee")
        highest = raised
    return highest, total, mixed


@triton.jit
def prefill_kernel(
    query: tl.tensor,
    key: tl.tensor,
    key_rope: tl.tensor,
    value: tl.tensor,
    query_starts: tl.tensor,
    key_starts: tl.tensor,
    context_lens: tl.tensor,
    out: tl.tensor,
    scale_log2: float,
    query_stride: int,
    key_stride: int,
    key_head_stride: int,
    rope_stride: int,
    value_stride: int,
    value_head_stride: int,
    heads: tl.constexpr,
    nope: tl.constexpr,
    rope: tl.constexpr,
    value_dim: tl.constexpr,
    block_queries: tl.constexpr,
    block_keys: tl.constexpr,
    upcast: tl.constexpr,
) -> None:
    """One tile of a sequence's queries and one head per program; takes keys from the first one on.

    A token's sums have the same terms in the same order wherever its tile begins, so its bits depend neither
    on the batch nor on the chunk.
    """
    head = tl.program_id(1)
    sequence = tl.program_id(2)
    query_start = tl.load(query_starts + sequence)
    count = tl.load(query_starts + sequence + 1) - query_start
    # Later tiles see more keys: the longest tiles start first.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    offset = tile * block_queries + tl.arange(0, block_queries)
    if tile * block_queries < count:
        length = tl.load(context_lens + sequence)
        context = length - count
        inside = offset[:, None] < count
        rows = (query_start + offset).to(tl.int64)
        width: tl.constexpr = nope + rope
        at = query + rows[:, None] * query_stride + head * width
        q_nope = tl.load(at + tl.arange(0, nope), mask=inside, other=0.0)
        q_rope = tl.load(at + nope + tl.arange(0, rope), mask=inside, other=0.0)
        if upcast:
            q_nope = q_nope.to(tl.float32)
            q_rope = q_rope.to(tl.float32)
        key_start = tl.load(key_starts + sequence).to(tl.int64)
        own_key = key + key_start * key_stride + head * key_head_stride
        own_rope = key_rope + key_start * rope_stride
        own_value = value + key_start * value_stride + head * value_head_stride
        positions = context + offset
        # All queries of the tile see the keys before its first query, in whole blocks.
        seen = (context + tile * block_queries) // block_keys * block_keys
        end = tl.minimum(context + (tile + 1) * block_queries, length)
        highest = tl.full((block_queries,), float("-inf"), tl.float32)
        total = tl.zeros((block_queries,), tl.float32)
        mixed = tl.zeros((block_queries, value_dim), tl.float32)
        highest, total, mixed = attend_range(
            q_nope,
            q_rope,
            positions,
            own_key,
            own_rope,
            own_value,
            scale_log2,
            key_stride,
            rope_stride,
            value_stride,
            0,
            seen,
            highest,
            total,
            mixed,
            nope,
            rope,
            value_dim,
            block_keys,
            False,
            upcast,
        )
        highest, total, mixed = attend_range(
            q_nope,
            q_rope,
            positions,
            own_key,
            own_rope,
            own_value,
            scale_log2,
            key_stride,
            rope_stride,
            value_stride,
            seen,
            end,
            highest,
            total,
            mixed,
            nope,
            rope,
            value_dim,
            block_keys,
            True,
            upcast,
        )
        place = out + (rows[:, None] * heads + head) * value_dim + tl.arange(0, value_dim)
        tl.store(place, mixed / total[:, None], mask=inside)


def mla_prefill(
    query: Tensor,
    key: Tensor,
    key_rope: Tensor,
    value: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    context_lens: Tensor,
    scale: float,
    max_queries: int,
) -> Tensor:
    """`query [T, heads, nope + rope]`, rotated, over keys and values of S rows -> `[T, heads, v]`.

    key `[S, heads, nope]` and value `[S, heads, v]` may be parts of kv_b_proj's output, key_rope `[S, rope]`
    part of gathered pages. query_starts, key_starts, context_lens are int32 `[B + 1]`, `[B]`, `[B]`: sequence
    b has the rows query_starts[b] to query_starts[b + 1] of query, at most max_queries and no more than
    context_lens[b]. They are the last of its context_lens[b] tokens, whose keys and values begin at row
    key_starts[b]. Each token sees itself and all earlier ones. Rows of no sequence are undefined. Offsets are
    64-bit. Deterministic.
    """
    tokens, heads, width = query.shape
    nope, rope, value_dim = key.shape[2], key_rope.shape[1], value.shape[2]
    fits = width == nope + rope and key.shape[1] == value.shape[1] == heads
    fits = fits and len(key) == len(value) == len(key_rope)
    shapes = ", ".join(str(tuple(part.shape)) for part in (query, key, key_rope, value))
    require(fits, f"query, key, rope key and value do not fit each other: {shapes}")
    require(query.stride(1) == width and query.stride(2) == 1, "the heads of query are not contiguous")
    rows = key.stride(2) == value.stride(2) == key_rope.stride(1) == 1
    require(rows, "the vectors of key, key_rope or value are not contiguous")
    batch = len(context_lens)
    require(len(query_starts) == batch + 1 and len(key_starts) == batch, "starts do not fit the contexts")
    out = torch.empty(tokens, heads, value_dim, dtype=query.dtype, device=query.device)
    if tokens:
        prefill_kernel[(triton.cdiv(max_queries, BLOCK_QUERIES), heads, batch)](
            query,
            key,
            key_rope,
            value,
            query_starts,
            key_starts,
            context_lens,
            out,
            scale * _LOG2_E,
            query.stride(0),
            key.stride(0),
            key.stride(1),
            key_rope.stride(0),
            value.stride(0),
            value.stride(1),
            heads=heads,
            nope=nope,
            rope=rope,
            value_dim=value_dim,
            block_queries=BLOCK_QUERIES,
            block_keys=BLOCK_KEYS,
            upcast=interpreted(query),
            num_warps=NUM_WARPS,
            num_stages=NUM_STAGES,
        )
    return out
