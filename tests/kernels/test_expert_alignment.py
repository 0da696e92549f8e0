"""The order of pairs by expert."""

from __future__ import annotations

import pytest
import torch

from kernels import expert_alignment
from kernels.reference import expert_alignment as reference


def aligned(experts, first, count, block):
    """The filled part of an alignment, as lists, and how much room there was."""
    result = expert_alignment.align_experts(experts, first, count, block)
    blocks = int(result.num_blocks)
    pairs = result.sorted_pairs[: blocks * block].tolist()
    return pairs, result.block_expert[:blocks].tolist(), len(result.block_expert)


def choose(tokens, top_k, num_experts):
    chosen = [torch.randperm(num_experts)[:top_k] for _ in range(tokens)]
    return torch.stack(chosen).to(torch.int32)


# 300 tokens are more pairs than a program reads at once.
@pytest.mark.parametrize(("tokens", "top_k", "num_experts"), [(1, 8, 16), (30, 4, 7), (300, 4, 5)])
def test_pairs_are_sorted_by_expert_and_ascend_within_one(interpreter, tokens, top_k, num_experts):
    experts = choose(tokens, top_k, num_experts)
    pairs, owners, room = interpreter(aligned, experts, 0, num_experts, 16)
    assert (pairs, owners) == reference.align_experts(experts, 0, num_experts, 16)
    assert len(owners) <= room


def test_other_ranks_experts_are_left_out(interpreter):
    experts = choose(9, 3, 12)
    pairs, owners, _ = interpreter(aligned, experts, 4, 4, 16)
    assert (pairs, owners) == reference.align_experts(experts, 4, 4, 16)
    assert set(owners) <= {0, 1, 2, 3}


def test_no_expert_at_all_gives_no_block(interpreter):
    assert interpreter(aligned, choose(2, 2, 4), 4, 4, 16)[:2] == ([], [])


def test_the_room_is_enough_when_every_pair_has_an_expert_of_its_own(interpreter):
    experts = torch.arange(8, dtype=torch.int32).view(1, 8)
    _, owners, room = interpreter(aligned, experts, 0, 8, 16)
    assert owners == list(range(8))
    assert room == 8
