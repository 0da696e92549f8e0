"""Routed experts, int4 and plain, on one GPU or with their width split over eight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import PackedExperts, choose_experts, normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.expert_weights import ExpertMatrices
from kernels.experts import RoutedExperts
from kernels.reference import experts as reference

_PLAIN_EXPERTS = 64
"""So many plain ones are enough to see: 384 of them would take 34 GB."""


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """A decode step's tokens, and a prompt's."""
    for width in sizes.widths:
        yield from _int4(width, sizes, device)
    yield from _plain(sizes.widths[-1], sizes, device)


def _int4(width: int, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    gate_up = PackedExperts(sizes.num_experts, 2, width, sizes.hidden, device)
    down = PackedExperts(sizes.num_experts, 1, sizes.hidden, width, device)
    tiled = ExpertMatrices.int4(gate_up.packed, gate_up.scales)
    tiled_down = ExpertMatrices.int4(down.packed, down.scales)
    expert_bytes = 3 * width * sizes.hidden * 9 // 16
    for tokens in (*sizes.batches, sizes.prompt):
        for deterministic in (True, False):
            run = RoutedExperts(tiled, tiled_down, deterministic)

            def expected(x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
                return reference.apply_experts(x.float(), experts, weights, gate_up, down)

            mode = "deterministic" if deterministic else "fast"
            shape = f"T={tokens} width={width} {mode}"
            yield _case("experts_int4", shape, tokens, run, expected, expert_bytes, sizes, width, device)
    yield _same_bits(RoutedExperts(tiled, tiled_down, deterministic=True), width, sizes, device)


def _plain(width: int, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    count = min(_PLAIN_EXPERTS, sizes.num_experts)
    gate_up = normal(count, 2, width, sizes.hidden, device=device).mul_(sizes.hidden**-0.5)
    down = normal(count, 1, sizes.hidden, width, device=device).mul_(width**-0.5)
    fewer = replace(sizes, num_experts=count)

    def expected(x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        return reference.apply_experts(x.float(), experts, weights, gate_up, down)

    for tokens in sizes.batches:
        run = RoutedExperts(ExpertMatrices.plain(gate_up), ExpertMatrices.plain(down), deterministic=False)
        shape = f"T={tokens} width={width} experts={count} fast"
        expert_bytes = 3 * width * sizes.hidden * gate_up.itemsize
        yield _case("experts_plain", shape, tokens, run, expected, expert_bytes, fewer, width, device)


def _case(
    kernel: str,
    shape: str,
    tokens: int,
    run: RoutedExperts,
    expected: Callable[[Tensor, Tensor, Tensor], Tensor],
    expert_bytes: int,
    sizes: Sizes,
    width: int,
    device: torch.device,
) -> Case:
    touched = len(choose_experts(tokens, sizes, device).unique())
    # What keeps the L2 from helping is that each copy's tokens go to other experts.
    copies = sizes.copies(touched * expert_bytes)
    x = normal(tokens, sizes.hidden, device=device)
    experts = [choose_experts(tokens, sizes, device) for _ in range(copies)]
    weights = torch.rand(tokens, sizes.top_k, device=device)
    return Case(
        kernel,
        shape,
        lambda copy: (run(x, experts[copy], weights),),
        lambda: (expected(x, experts[0], weights),),
        tolerance=2e-2,
        num_bytes=touched * expert_bytes + 2 * x.nbytes,
        flops=2 * tokens * sizes.top_k * 3 * width * sizes.hidden,
        copies=copies,
    )


def _same_bits(run: RoutedExperts, width: int, sizes: Sizes, device: torch.device) -> Case:
    """Of the first token of a batch in deterministic mode, against its run alone."""
    tokens = sizes.batches[-1]
    x = normal(tokens, sizes.hidden, device=device)
    experts = choose_experts(tokens, sizes, device)
    weights = torch.rand(tokens, sizes.top_k, device=device)
    return Case(
        "experts_int4",
        f"the same bits in T={tokens} as alone, width={width}",
        lambda _: (run(x, experts, weights)[:1],),
        lambda: (run(x[:1], experts[:1], weights[:1]),),
        tolerance=0.0,
        num_bytes=len(experts.unique()) * 3 * width * sizes.hidden * 9 // 16,
    )


if __name__ == "__main__":
    run_script(cases)
