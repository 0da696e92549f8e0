"""Sorts tokens by expert into blocks of one expert each, without reading their number back from the GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import require

_TILE = 1024


@triton.jit(do_not_specialize=["num_pairs"])
def count_kernel(
    experts: tl.tensor, counts: tl.tensor, num_pairs: int, first_expert: int, tile: tl.constexpr
) -> None:
    """One expert per program: counts the pairs that chose it."""
    local = tl.program_id(0)
    lane = tl.arange(0, tile)
    count = 0
    for start in range(0, num_pairs, tile):
        pair = start + lane
        expert = tl.load(experts + pair, mask=pair < num_pairs, other=-1)
        count += tl.sum((expert == first_expert + local).to(tl.int32), axis=0)
    tl.store(counts + local, count)


@triton.jit(do_not_specialize=["num_pairs"])
def place_kernel(
    experts: tl.tensor,
    counts: tl.tensor,
    sorted_pairs: tl.tensor,
    block_expert: tl.tensor,
    num_blocks: tl.tensor,
    num_pairs: int,
    first_expert: int,
    num_experts: tl.constexpr,
    block_experts: tl.constexpr,
    block_pairs: tl.constexpr,
    tile: tl.constexpr,
) -> None:
    """One expert per program: places its pairs after the blocks of all earlier experts.

    Every program reads all pairs. This costs less than atomics, and keeps the pairs in order.
    """
    local = tl.program_id(0)
    other = tl.arange(0, block_experts)
    blocks = tl.cdiv(tl.load(counts + other, mask=other < num_experts, other=0), block_pairs)
    first_block = tl.sum(tl.where(other < local, blocks, 0), axis=0)
    own_blocks = tl.sum(tl.where(other == local, blocks, 0), axis=0)
    begin = first_block * block_pairs
    lane = tl.arange(0, tile)
    placed = 0
    for start in range(0, num_pairs, tile):
        pair = start + lane
        expert = tl.load(experts + pair, mask=pair < num_pairs, other=-1)
        mine = (expert == first_expert + local) & (pair < num_pairs)
        rank = placed + tl.cumsum(mine.to(tl.int32), axis=0) - 1
        tl.store(sorted_pairs + begin + rank, pair, mask=mine)
        placed += tl.sum(mine.to(tl.int32), axis=0)
    padding = placed + tl.arange(0, block_pairs)
    tl.store(sorted_pairs + begin + padding, num_pairs, mask=padding < own_blocks * block_pairs)
    for index in range(own_blocks):
        tl.store(block_expert + first_block + index, local)
    if local == num_experts - 1:
        tl.store(num_blocks, first_block + own_blocks)


@dataclass(frozen=True)
class Alignment:
    """Pairs in blocks of `block_pairs`; pair p is choice p % k of token p // k.

    `sorted_pairs` int32 `[max_blocks * block_pairs]`: within an expert pairs ascend, and the total number of
    pairs pads a block. `block_expert` int32 `[max_blocks]`, counted from the first local one. `num_blocks`
    int32 `[1]`: entries after so many blocks are undefined.
    """

    sorted_pairs: Tensor
    block_expert: Tensor
    num_blocks: Tensor
    block_pairs: int


def align_experts(experts: Tensor, first_expert: int, num_experts: int, block_pairs: int) -> Alignment:
    """Aligns int32 `experts [T, k]` for the experts [first_expert, first_expert + num_experts).

    Leaves out pairs of other experts. Blocks have block_pairs pairs, a power of two. Deterministic.
    """
    require(experts.dtype == torch.int32 and experts.is_contiguous(), "experts are not contiguous int32")
    num_pairs, device = experts.numel(), experts.device
    # For every expert that has a pair, all but one place of a block may be empty.
    max_blocks = (num_pairs + min(num_pairs, num_experts) * (block_pairs - 1)) // block_pairs
    counts = torch.empty(num_experts, dtype=torch.int32, device=device)
    result = Alignment(
        sorted_pairs=torch.empty(max_blocks * block_pairs, dtype=torch.int32, device=device),
        block_expert=torch.empty(max_blocks, dtype=torch.int32, device=device),
        num_blocks=torch.empty(1, dtype=torch.int32, device=device),
        block_pairs=block_pairs,
    )
    count_kernel[(num_experts,)](experts, counts, num_pairs, first_expert, tile=_TILE)
    place_kernel[(num_experts,)](
        experts,
        counts,
        result.sorted_pairs,
        result.block_expert,
        result.num_blocks,
        num_pairs,
        first_expert,
        num_experts=num_experts,
        block_experts=triton.next_power_of_2(num_experts),
        block_pairs=block_pairs,
        tile=_TILE,
    )
    return result
