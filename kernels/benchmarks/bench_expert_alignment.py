"""Sorting pairs by expert."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import choose_experts
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.expert_alignment import align_experts
from kernels.reference import expert_alignment as reference

_BLOCK_PAIRS = 16


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Experts chosen uniformly at random."""
    for tokens in (*sizes.batches, sizes.prompt):
        yield _case(tokens, sizes, device)


def _case(tokens: int, sizes: Sizes, device: torch.device) -> Case:
    experts = choose_experts(tokens, sizes, device)

    def run(_: int) -> tuple[torch.Tensor, ...]:
        result = align_experts(experts, 0, sizes.num_experts, _BLOCK_PAIRS)
        return result.sorted_pairs, result.block_expert, result.num_blocks

    def filled(results: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        pairs, owners, num_blocks = results
        blocks = int(num_blocks)
        # Each value plus one, because errors are relative and all owners may be 0.
        return pairs[: blocks * _BLOCK_PAIRS] + 1, owners[:blocks] + 1

    def expected() -> tuple[torch.Tensor, ...]:
        pairs, owners = reference.align_experts(experts, 0, sizes.num_experts, _BLOCK_PAIRS)
        return torch.tensor(pairs, device=device) + 1, torch.tensor(owners, device=device) + 1

    return Case("expert_alignment", f"T={tokens}", run, expected, 0.0, 2 * experts.nbytes, view=filled)


if __name__ == "__main__":
    run_script(cases)
