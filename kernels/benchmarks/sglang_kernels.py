"""SGLang's Triton kernels, called as its own engine calls them.

They are imported from its wheel alone: installing it with `--no-deps` is enough. Our kernel sorts the pairs
by expert, because theirs is compiled in another wheel.
"""

from __future__ import annotations

import functools
from types import ModuleType

import torch
import triton.language as tl
from torch import Tensor

from kernels.benchmarks.inputs import DecodeInputs, ExpertInputs, PackedExperts
from kernels.benchmarks.lone_import import import_alone
from kernels.benchmarks.run import Run
from kernels.expert_alignment import align_experts

# Their place since 0.5.23.
_DECODE = "sglang.kernels.ops.attention.decode_attention"
_EXPERTS = "sglang.kernels.ops.moe.fused_moe_triton_kernels"
_GROUP = 32

Tile = tuple[int, int, int, int]
"""Pairs, outputs and inputs of a block, and the number of blocks of pairs that share weights in the L2."""

# SGLang takes the first of each if it has no file for the device, as for int4 on Hopper.
_FEW: tuple[Tile, ...] = (
    (16, 32, 64, 1),
    (16, 64, 64, 1),
    (16, 128, 64, 1),
    (16, 32, 128, 1),
    (16, 64, 128, 1),
    (16, 128, 128, 1),
)
_MANY: tuple[Tile, ...] = ((64, 64, 32, 8), (64, 128, 64, 8), (128, 128, 64, 8))

SPLITS = (8, 32)
"""Its default number of splits for a batch, and a number that speeds up small batches."""


@functools.cache
def load(name: str) -> ModuleType:
    """One of its modules. Raises whatever the import raises."""
    return import_alone(name)


def check() -> None:
    """Raises the error that prevents loading its kernels."""
    load(_DECODE)
    load(_EXPERTS)


def tiles(tokens: int, top_k: int, num_experts: int) -> tuple[Tile, ...]:
    """Tiles that suit the average number of pairs per expert."""
    return _FEW if tokens * top_k <= 32 * num_experts else _MANY


def decode(inputs: DecodeInputs, splits: int) -> Run:
    """`[B, H, latent]`. Its cache has pages of one token, so a sequence is a list of rows."""
    attend = load(_DECODE).decode_attention_fwd
    batch, heads, width = inputs.query.shape
    device = inputs.query.device
    keys = inputs.pages.view(-1, 1, width)
    within = torch.arange(inputs.tables.shape[2] * 64, device=device) < inputs.context_lens[:, None]
    offsets = torch.arange(64, device=device)
    rows = [(table[:, :, None] * 64 + offsets).view(batch, -1)[within].long() for table in inputs.tables]
    starts = torch.zeros(batch + 1, dtype=torch.int32, device=device)
    starts[1:] = inputs.context_lens.cumsum(0)
    counts = torch.full((batch,), splits, dtype=torch.int32, device=device)
    parts = torch.empty(batch, heads, splits, inputs.latent, dtype=torch.float32, device=device)
    sums = torch.empty(batch, heads, splits, dtype=torch.float32, device=device)
    out = torch.empty(batch, heads, inputs.latent, dtype=inputs.query.dtype, device=device)

    def run(copy: int) -> tuple[Tensor, ...]:
        cache = (keys, keys[..., : inputs.latent])
        cut = (parts, sums, counts, splits)
        attend(inputs.query, *cache, out, starts, rows[copy], *cut, inputs.scale, 1.0, 1.0, has_mla=True)
        return (out,)

    return run


def experts(inputs: ExpertInputs, gate_up: PackedExperts, down: PackedExperts, tile: Tile) -> Run:
    """`[T, hidden]` by its Triton path: alignment, product, gate, product and sum, each its own kernel."""
    kernels = load(_EXPERTS)
    config = dict(zip(("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M"), tile, strict=True))
    (count, _, width, _), hidden = gate_up.packed.shape, inputs.x.shape[1]
    first, second = _as_bytes(gate_up), _as_bytes(down)
    tokens, top_k = inputs.weights.shape
    gated = inputs.x.new_empty(tokens * top_k, 2 * width)
    inner = inputs.x.new_empty(tokens * top_k, width)
    outer = inputs.x.new_empty(tokens, top_k, hidden)
    out = torch.empty_like(inputs.x)
    compute_type = getattr(tl, str(inputs.x.dtype).removeprefix("torch."))

    def product(
        x: Tensor, matrices: tuple[Tensor, Tensor], to: Tensor, chosen: Tensor, *order: Tensor
    ) -> None:
        packed, scales = matrices
        last = to is outer
        kernels.invoke_fused_moe_kernel(
            *(x, packed, None, to, None, scales, None, inputs.weights, chosen, *order),
            *(last, 1 if last else top_k, config),
            compute_type=compute_type,
            use_fp8_w8a8=False,
            use_int8_w8a8=False,
            use_int8_w8a16=False,
            use_int4_w4a16=True,
            per_channel_quant=False,
            block_shape=[0, _GROUP],
        )

    def run(copy: int) -> tuple[Tensor, ...]:
        chosen = inputs.experts[copy]
        aligned = align_experts(chosen, 0, count, tile[0])
        order = (aligned.sorted_pairs, aligned.block_expert, aligned.num_blocks * tile[0])
        product(inputs.x, first, gated, chosen, *order)
        kernels.act_and_mul_triton(gated, inner, config, chosen)
        product(inner, second, outer, chosen, *order)
        kernels.moe_sum_reduce_triton(outer, out, 1.0)
        return (out,)

    return run


def _as_bytes(experts: PackedExperts) -> tuple[Tensor, Tensor]:
    """uint8 `[E, out, in / 2]` and scales `[E, out, in / 32]`, with parts stacked along `out`: the
    same bits.
    """
    count, parts, outputs, words = experts.packed.shape
    packed = experts.packed.view(count, parts * outputs, words).view(torch.uint8)
    return packed, experts.scales.view(count, parts * outputs, -1)
