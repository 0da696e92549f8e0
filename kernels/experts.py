"""Routed experts: grouped products of int4 or plain weights with SwiGLU, and the weighted sum."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.expert_alignment import Alignment, align_experts
from kernels.expert_weights import GROUP, TILE, ExpertMatrices
from kernels.launch import architecture, interpreted, require


@triton.jit
def load_halves(
    values: tl.tensor,
    scales: tl.tensor,
    step: tl.tensor,
    inputs: tl.constexpr,
    tile: tl.constexpr,
    group: tl.constexpr,
    quantised: tl.constexpr,
    upcast: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Tile `step` of 64 rows: inputs 0 to 31 and 32 to 63, each `[64, 32]`."""
    row = tl.arange(0, tile)
    lane = tl.arange(0, group)
    if quantised:
        octets = tl.load(values + step * (tile * group) + row[:, None] * group + lane[None, :])
        low_scale = tl.load(scales + step * (2 * tile) + row)[:, None]
        high_scale = tl.load(scales + step * (2 * tile) + tile + row)[:, None]
        if upcast:
            low = ((octets & 15).to(tl.float32) - 8.0) * low_scale.to(tl.float32)
            high = ((octets >> 4).to(tl.float32) - 8.0) * high_scale.to(tl.float32)
        else:
            # In bfloat16, 0x4300 is 128 and its last bit counts 1. So setting the lower bits adds the nibble,
            # which is far cheaper than converting integers.
            low = ((octets & 15).to(tl.int16) | 0x4300).to(tl.bfloat16, bitcast=True) - 136.0
            high = ((octets >> 4).to(tl.int16) | 0x4300).to(tl.bfloat16, bitcast=True) - 136.0
            low = low * low_scale
            high = high * high_scale
    else:
        at = values + row[:, None] * inputs + step * tile + lane[None, :]
        low = tl.load(at)
        high = tl.load(at + group)
        if upcast:
            low = low.to(tl.float32)
            high = high.to(tl.float32)
    return low, high


@triton.jit(do_not_specialize=["num_pairs", "max_blocks"])
def product_kernel(
    x: tl.tensor,
    values: tl.tensor,
    scales: tl.tensor,
    sorted_pairs: tl.tensor,
    block_expert: tl.tensor,
    num_blocks: tl.tensor,
    out: tl.tensor,
    num_pairs: int,
    max_blocks: int,
    x_stride: int,
    pairs_per_row: tl.constexpr,
    inputs: tl.constexpr,
    outputs: tl.constexpr,
    gated: tl.constexpr,
    tile: tl.constexpr,
    group: tl.constexpr,
    block_pairs: tl.constexpr,
    quantised: tl.constexpr,
    upcast: tl.constexpr,
) -> None:
    """One block of pairs and 64 outputs per program: W x^T, with W in registers as the left operand.

    x has a row for every pairs_per_row pairs, out one per pair. Programs of the same outputs are adjacent, so
    that blocks of one expert find its weights in the L2.
    """
    block = tl.program_id(0) % max_blocks
    column = (tl.program_id(0) // max_blocks) * tile
    if block < tl.load(num_blocks):
        expert = tl.load(block_expert + block).to(tl.int64)
        pair = tl.load(sorted_pairs + block * block_pairs + tl.arange(0, block_pairs))
        inside = pair < num_pairs
        rows = x + (pair // pairs_per_row).to(tl.int64) * x_stride
        lane = tl.arange(0, group)
        parts: tl.constexpr = 2 if gated else 1
        # Size of one matrix: two values per byte, and a scale for each group.
        size: tl.constexpr = outputs * inputs // 2 if quantised else outputs * inputs
        own_values = values + expert * (parts * size) + column * (size // outputs)
        own_scales = scales + expert * (parts * outputs * inputs // group) + column * (inputs // group)
        first = tl.zeros((tile, block_pairs), tl.float32)
        second = tl.zeros((tile, block_pairs), tl.float32)
        for step in range(inputs // tile):
            at = rows[None, :] + step * tile + lane[:, None]
            x_low = tl.load(at, mask=inside[None, :], other=0.0)
            x_high = tl.load(at + group, mask=inside[None, :], other=0.0)
            if upcast:
                x_low = x_low.to(tl.float32)
                x_high = x_high.to(tl.float32)
            low, high = load_halves(own_values, own_scales, step, inputs, tile, group, quantised, upcast)
            first = tl.dot(low, x_low, first, input_precision="ieee")
            first = tl.dot(high, x_high, first, input_precision="ieee")
            if gated:
                low, high = load_halves(
                    own_values + size,
                    own_scales + outputs * inputs // group,
                    step,
                    inputs,
                    tile,
                    group,
                    quantised,
                    upcast,
                )
                second = tl.dot(low, x_low, second, input_precision="ieee")
                second = tl.dot(high, x_high, second, input_precision="ieee")
        if gated:
            first = first / (1.0 + tl.exp(-first)) * second
        place = out + pair[None, :].to(tl.int64) * outputs + column + tl.arange(0, tile)[:, None]
        tl.store(place, first, mask=inside[None, :])


@triton.jit
def sum_kernel(
    results: tl.tensor,
    experts: tl.tensor,
    weights: tl.tensor,
    shared: tl.tensor,
    out: tl.tensor,
    first_expert: int,
    num_experts: int,
    width: tl.constexpr,
    top_k: tl.constexpr,
    block: tl.constexpr,
    add_shared: tl.constexpr,
) -> None:
    """Part of a token per program: adds its experts' results in the router's order, then the shared one's."""
    token = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * block + tl.arange(0, block)
    inside = lane < width
    total = tl.zeros((block,), tl.float32)
    for rank in tl.static_range(top_k):
        pair = token * top_k + rank
        local = tl.load(experts + pair) - first_expert
        # Rows of experts on other ranks were never written.
        present = (local >= 0) & (local < num_experts)
        value = tl.load(results + pair * width + lane, mask=inside & present, other=0.0)
        total += value.to(tl.float32) * tl.load(weights + pair)
    if add_shared:
        total += tl.load(shared + token * width + lane, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + token * width + lane, total, mask=inside)


class RoutedExperts:
    """The experts [first_expert, first_expert + E) of a layer.

    gate_up: `[E, 2, width, hidden]`, down: `[E, 1, hidden, width]`, both int4 or both plain. deterministic:
    tiles do not depend on the number of tokens, so neither do a token's bits.
    """

    def __init__(
        self, gate_up: ExpertMatrices, down: ExpertMatrices, deterministic: bool, first_expert: int = 0
    ) -> None:
        fits = gate_up.parts == 2 and down.parts == 1 and len(gate_up.values) == len(down.values)
        fits = fits and (gate_up.inputs, gate_up.outputs) == (down.outputs, down.inputs)
        require(fits, f"gate and up {tuple(gate_up.values.shape)} do not fit down {tuple(down.values.shape)}")
        self._gate_up = gate_up
        self._down = down
        self._deterministic = deterministic
        self._first_expert = first_expert
        self._num_experts = len(gate_up.values)

    def __call__(self, x: Tensor, experts: Tensor, weights: Tensor, shared: Tensor | None = None) -> Tensor:
        """sum_k w_k expert_k(x) + shared: `x [T, hidden]` -> `[T, hidden]`.

        experts int32, weights float32 `[T, k]`; shared `[T, hidden]` is the shared expert's result. If other
        ranks have other experts, returns only the part of the sum for these experts. Never waits for the GPU.
        """
        tokens, hidden = x.shape
        require(hidden == self._gate_up.inputs, f"x {tuple(x.shape)} is not {self._gate_up.inputs} wide")
        require(x.stride(1) == 1, "the rows of x are not contiguous")
        require(experts.shape == weights.shape and len(experts) == tokens, "experts or weights do not fit x")
        top_k = experts.shape[1]
        out = torch.empty(tokens, hidden, dtype=x.dtype, device=x.device)
        if not tokens:
            return out
        block_pairs = choose_block_pairs(tokens * top_k, self._num_experts, self._deterministic)
        alignment = align_experts(experts, self._first_expert, self._num_experts, block_pairs)
        inner = _multiply(x, self._gate_up, alignment, top_k, tokens * top_k)
        results = _multiply(inner, self._down, alignment, 1, tokens * top_k)
        block = min(triton.next_power_of_2(hidden), 1024)
        sum_kernel[(tokens, triton.cdiv(hidden, block))](
            results,
            experts,
            weights.contiguous(),
            out if shared is None else shared.contiguous(),
            out,
            self._first_expert,
            self._num_experts,
            width=hidden,
            top_k=top_k,
            block=block,
            add_shared=shared is not None,
        )
        return out


def choose_block_pairs(num_pairs: int, num_experts: int, deterministic: bool) -> int:
    """Pairs per block: the average per expert, from 16 (the minimum of a matrix instruction) to 64."""
    if deterministic:
        return 16
    average: int = triton.next_power_of_2(max(num_pairs // num_experts, 1))
    return min(max(average, 16), 64)


def product_warps(block_pairs: int, architecture: int) -> int:
    """Warps of a program. From Blackwell on (architecture 10), four would spill registers with 64 pairs."""
    return 8 if block_pairs == 64 and architecture >= 10 else 4


def _multiply(
    x: Tensor, matrices: ExpertMatrices, alignment: Alignment, pairs_per_row: int, num_pairs: int
) -> Tensor:
    """Each pair's row of x times its expert's matrix, `[num_pairs, out]`; with two matrices, SwiGLU."""
    out = torch.empty(num_pairs, matrices.outputs, dtype=x.dtype, device=x.device)
    max_blocks = len(alignment.block_expert)
    product_kernel[(max_blocks * matrices.outputs // TILE,)](
        x,
        matrices.values,
        matrices.values if matrices.scales is None else matrices.scales,
        alignment.sorted_pairs,
        alignment.block_expert,
        alignment.num_blocks,
        out,
        num_pairs,
        max_blocks,
        x.stride(0),
        pairs_per_row=pairs_per_row,
        inputs=matrices.inputs,
        outputs=matrices.outputs,
        gated=matrices.parts == 2,
        tile=TILE,
        group=GROUP,
        block_pairs=alignment.block_pairs,
        quantised=matrices.scales is not None,
        upcast=interpreted(x),
        num_warps=product_warps(alignment.block_pairs, architecture(x)),
        num_stages=4,
    )
    return out
