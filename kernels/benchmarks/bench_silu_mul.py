"""The elementwise half of SwiGLU, for the shared expert and the dense layer."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.reference import silu_mul as reference
from kernels.silu_mul import silu_mul


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Rows of the shared expert's width, and of the dense layer's."""
    for width in (sizes.widths[0], sizes.dense_width):
        for tokens in (*sizes.batches, sizes.prompt):
            yield _case(tokens, width, sizes, device)


def _case(tokens: int, width: int, sizes: Sizes, device: torch.device) -> Case:
    num_bytes = 3 * tokens * width * 2
    copies = sizes.copies(num_bytes)
    gate_up = [normal(tokens, 2 * width, device=device) for _ in range(copies)]
    return Case(
        "silu_mul",
        f"T={tokens} width={width}",
        lambda copy: (silu_mul(gate_up[copy]),),
        lambda: (reference.silu_mul(gate_up[0].float()),),
        tolerance=1e-2,
        num_bytes=num_bytes,
        copies=copies,
    )


if __name__ == "__main__":
    run_script(cases)
