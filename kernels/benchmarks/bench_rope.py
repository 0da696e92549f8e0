"""Rotary embedding of the queries' rope parts, in place."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import make_angles, normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.reference import rope as reference
from kernels.rope import rotate


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """All heads of a token, at random positions."""
    cos, sin = make_angles(sizes, device)
    for heads in sizes.heads:
        for tokens in (*sizes.batches, sizes.prompt):
            yield _case(tokens, heads, cos, sin, sizes)


def _case(tokens: int, heads: int, cos: torch.Tensor, sin: torch.Tensor, sizes: Sizes) -> Case:
    num_bytes = 2 * tokens * heads * sizes.rope * 2 + tokens * sizes.rope * 4
    copies = sizes.copies(num_bytes)
    query = [normal(tokens, heads, 3 * sizes.rope, device=cos.device) for _ in range(copies)]
    positions = torch.randint(sizes.max_positions, (tokens,), device=cos.device)

    def run(copy: int) -> tuple[torch.Tensor, ...]:
        part = query[copy][..., -sizes.rope :]
        rotate(part, positions, cos, sin, part)
        return (query[copy],)

    def expected() -> tuple[torch.Tensor, ...]:
        wide = query[0].float()
        turned = reference.rotate(wide[..., -sizes.rope :], positions, cos, sin)
        return (torch.cat([wide[..., : -sizes.rope], turned], dim=-1),)

    return Case("rope", f"T={tokens} heads={heads}", run, expected, 1e-2, num_bytes, copies=copies)


if __name__ == "__main__":
    run_script(cases)
