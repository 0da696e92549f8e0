"""Pairs of token and choice, sorted by expert into blocks of one expert each."""

from __future__ import annotations

from torch import Tensor


def align_experts(
    experts: Tensor, first_expert: int, num_experts: int, block_pairs: int
) -> tuple[list[int], list[int]]:
    """The padded list of pairs for int `experts [T, k]`, and the local expert of each block.

    Pair p is choice p % k of token p // k. Within an expert pairs ascend; the total number of pairs pads a
    block.
    """
    flat = experts.flatten().tolist()
    pairs: list[int] = []
    owners: list[int] = []
    for local in range(num_experts):
        mine = [pair for pair, expert in enumerate(flat) if expert == first_expert + local]
        blocks = -(-len(mine) // block_pairs)
        pairs += mine + [len(flat)] * (blocks * block_pairs - len(mine))
        owners += [local] * blocks
    return pairs, owners
