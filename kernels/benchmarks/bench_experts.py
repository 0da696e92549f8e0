"""Routed experts, int4 and plain, on one GPU or with their width split over eight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeAlias

import torch

from kernels.benchmarks import others
from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import ExpertInputs, PackedExperts, choose_experts, normal
from kernels.benchmarks.run import Run
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.expert_weights import ExpertMatrices
from kernels.experts import RoutedExperts
from kernels.reference import experts as reference
from kernels.reference.experts import Matrices

_PLAIN_EXPERTS = 64
"""Number of plain experts in the check: all 384 of them would take 34 GB."""

_MODES = (("deterministic", True), ("fast", False))


Expected: TypeAlias = Callable[[], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class _Cost:
    """The cost of one expert: reading it, and computing a token with it."""

    num_bytes: int
    flops: int


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """The tokens of a decode step, and of a prompt."""
    for width in sizes.widths:
        yield from _int4(width, sizes, device)
    for width in sizes.widths:
        yield from _plain(width, sizes, device)


def _int4(width: int, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    gate_up = PackedExperts(sizes.num_experts, 2, width, sizes.hidden, device)
    down = PackedExperts(sizes.num_experts, 1, sizes.hidden, width, device)
    tiled = ExpertMatrices.int4(gate_up.packed, gate_up.scales)
    tiled_down = ExpertMatrices.int4(down.packed, down.scales)
    values = 3 * width * sizes.hidden
    cost = _Cost(values * 9 // 16, 2 * values)

    def at(tokens: int) -> Iterator[Case]:
        """Our kernel in both modes and others' kernels on the same inputs, which are freed after the last
        case.
        """
        inputs = _inputs(tokens, cost, sizes, device)
        shape = f"T={tokens} width={width}"
        case = partial(_case, "experts_int4", shape, inputs, _once(inputs, gate_up, down), cost)
        for mode, deterministic in _MODES:
            yield case(mode, _ours(inputs, RoutedExperts(tiled, tiled_down, deterministic)))
        for by, run in others.int4_experts(inputs, gate_up, down):
            yield case("fast", run, by)

    for tokens in (*sizes.batches, sizes.prompt):
        yield from at(tokens)
    yield _same_bits("experts_int4", RoutedExperts(tiled, tiled_down, True), width, cost, sizes, device)


def _plain(width: int, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    count = min(_PLAIN_EXPERTS, sizes.num_experts)
    gate_up = normal(count, 2, width, sizes.hidden, device=device).mul_(sizes.hidden**-0.5)
    down = normal(count, 1, sizes.hidden, width, device=device).mul_(width**-0.5)
    tiled, tiled_down = ExpertMatrices.plain(gate_up), ExpertMatrices.plain(down)
    values = 3 * width * sizes.hidden
    cost = _Cost(values * gate_up.itemsize, 2 * values)
    few = replace(sizes, num_experts=count)
    for tokens in sizes.batches:
        inputs = _inputs(tokens, cost, few, device)
        shape = f"T={tokens} width={width} experts={count}"
        expected = _once(inputs, gate_up, down)
        for mode, deterministic in _MODES:
            run = _ours(inputs, RoutedExperts(tiled, tiled_down, deterministic))
            yield _case("experts_plain", shape, inputs, expected, cost, mode, run)
    yield _same_bits("experts_plain", RoutedExperts(tiled, tiled_down, True), width, cost, few, device)


def _inputs(tokens: int, cost: _Cost, sizes: Sizes, device: torch.device) -> ExpertInputs:
    touched = len(choose_experts(tokens, sizes, device).unique())
    # The L2 does not help, because each copy's tokens go to other experts.
    copies = sizes.copies(touched * cost.num_bytes)
    experts = [choose_experts(tokens, sizes, device) for _ in range(copies)]
    weights = torch.rand(tokens, sizes.top_k, device=device)
    return ExpertInputs(normal(tokens, sizes.hidden, device=device), experts, weights)


def _once(inputs: ExpertInputs, gate_up: Matrices, down: Matrices) -> Expected:
    """The reference's result, computed on first use: it dequantises every expert."""
    x, experts, weights = inputs.x, inputs.experts[0], inputs.weights
    return cache(lambda: (reference.apply_experts(x.float(), experts, weights, gate_up, down),))


def _ours(inputs: ExpertInputs, apply: RoutedExperts) -> Run:
    return lambda copy: (apply(inputs.x, inputs.experts[copy], inputs.weights),)


def _case(
    kernel: str,
    shape: str,
    inputs: ExpertInputs,
    expected: Expected,
    cost: _Cost,
    mode: str,
    run: Run,
    by: str = "",
) -> Case:
    x, experts = inputs.x, inputs.experts[0]
    touched = len(experts.unique())
    return Case(
        kernel,
        f"{shape} {mode}",
        run,
        expected,
        tolerance=2e-2,
        num_bytes=touched * cost.num_bytes + 2 * x.nbytes,
        flops=experts.numel() * cost.flops,
        copies=len(inputs.experts),
        by=by,
    )


def _same_bits(
    kernel: str, run: RoutedExperts, width: int, cost: _Cost, sizes: Sizes, device: torch.device
) -> Case:
    """Compares the first token of a batch in deterministic mode with its run alone."""
    tokens = sizes.batches[-1]
    x = normal(tokens, sizes.hidden, device=device)
    experts = choose_experts(tokens, sizes, device)
    weights = torch.rand(tokens, sizes.top_k, device=device)
    return Case(
        kernel,
        f"the same bits in T={tokens} as alone, width={width}",
        lambda _: (run(x, experts, weights)[:1],),
        lambda: (run(x[:1], experts[:1], weights[:1]),),
        tolerance=0.0,
        num_bytes=len(experts.unique()) * cost.num_bytes,
    )


if __name__ == "__main__":
    run_script(cases)
