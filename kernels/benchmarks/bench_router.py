"""Choosing experts."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.reference import router as reference
from kernels.router import select_experts

_SCALE = 2.827


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Random logits, and a bias as large as in a trained model."""
    for tokens in (*sizes.batches, sizes.prompt):
        yield _case(tokens, sizes, device)


def _case(tokens: int, sizes: Sizes, device: torch.device) -> Case:
    num_bytes = tokens * (sizes.num_experts + 2 * sizes.top_k) * 4
    copies = sizes.copies(num_bytes)
    logits = [normal(tokens, sizes.num_experts, device=device, dtype=torch.float32) for _ in range(copies)]
    bias = normal(sizes.num_experts, device=device, dtype=torch.float32) * 0.1

    def chosen_scores(results: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # Among scores that differ only by rounding, either may be chosen. So this compares the scores of the
        # chosen experts, and their weights with those scores.
        experts, weights = results[0].long(), results[1].double()
        scores = torch.sigmoid(logits[0].double())
        own = scores.gather(-1, experts)
        right = own / own.sum(-1, keepdim=True) * _SCALE
        return (scores + bias.double()).gather(-1, experts), weights / right

    def expected() -> tuple[torch.Tensor, ...]:
        return chosen_scores(reference.select_experts(logits[0].double(), bias.double(), sizes.top_k, _SCALE))

    return Case(
        "router",
        f"T={tokens}",
        lambda copy: select_experts(logits[copy], bias, sizes.top_k, _SCALE),
        expected,
        tolerance=1e-5,
        num_bytes=num_bytes,
        copies=copies,
        view=chosen_scores,
    )


if __name__ == "__main__":
    run_script(cases)
