"""RMSNorm, plain and with the addition of the residual."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.reference import rms_norm as reference
from kernels.rms_norm import add_rms_norm, rms_norm

_EPS = 1e-5


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Rows of the hidden size."""
    weight = normal(sizes.hidden, device=device)
    for tokens in (*sizes.batches, sizes.prompt):
        yield _plain(tokens, weight, sizes)
        yield _fused(tokens, weight, sizes)


def _plain(tokens: int, weight: torch.Tensor, sizes: Sizes) -> Case:
    num_bytes = 2 * tokens * sizes.hidden * weight.itemsize
    copies = sizes.copies(num_bytes)
    x = [normal(tokens, sizes.hidden, device=weight.device) for _ in range(copies)]
    return Case(
        "rms_norm",
        f"T={tokens}",
        lambda copy: (rms_norm(x[copy], weight, _EPS),),
        lambda: (reference.rms_norm(x[0].float(), weight.float(), _EPS),),
        tolerance=1e-2,
        num_bytes=num_bytes,
        copies=copies,
    )


def _fused(tokens: int, weight: torch.Tensor, sizes: Sizes) -> Case:
    num_bytes = 4 * tokens * sizes.hidden * weight.itemsize
    copies = sizes.copies(num_bytes)
    x = [normal(tokens, sizes.hidden, device=weight.device) for _ in range(copies)]
    residual = [normal(tokens, sizes.hidden, device=weight.device) for _ in range(copies)]

    def expected() -> tuple[torch.Tensor, ...]:
        total = (x[0] + residual[0]).float()  # rounded, like the residual
        return reference.rms_norm(total, weight.float(), _EPS), total

    def run(copy: int) -> tuple[torch.Tensor, ...]:
        return add_rms_norm(x[copy], residual[copy], weight, _EPS), residual[copy]

    return Case(
        "add_rms_norm", f"T={tokens}", run, expected, tolerance=1e-2, num_bytes=num_bytes, copies=copies
    )


if __name__ == "__main__":
    run_script(cases)
