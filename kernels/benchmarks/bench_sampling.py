"""Drawing tokens from the whole vocabulary, including the sort."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.reference import sampling as reference
from kernels.sampling import SamplingRows, draw_uniform, sample


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Nucleus sampling; each row has its own seed."""
    for batch in sizes.batches:
        yield _case(batch, sizes, device)


def _case(batch: int, sizes: Sizes, device: torch.device) -> Case:
    logits = normal(batch, sizes.vocabulary, device=device, dtype=torch.float32) * 3.0
    ones = torch.ones(batch, dtype=torch.float64, device=device)
    seed = torch.randint(-(2**63), 2**63 - 1, (batch,), device=device)
    rows = SamplingRows(
        temperature=ones * 0.6,
        top_k=torch.zeros(batch, dtype=torch.int32, device=device),
        top_p=ones * 0.95,
        min_p=ones * 0.0,
        seed=seed,
        choice=torch.zeros(batch, dtype=torch.int64, device=device),
        position=torch.arange(batch, device=device),
    )

    def compared(results: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # Each token plus one, because errors are relative and all tokens may be 0.
        draws = draw_uniform(rows.seed, rows.choice, rows.position)
        return results[0] + 1, draws

    def expected() -> tuple[torch.Tensor, ...]:
        draws = [reference.uniform(value % 2**64, 0, index) for index, value in enumerate(seed.tolist())]
        tokens = [
            reference.draw_token(row, 0.6, 0, 0.95, 0.0, draw)
            for row, draw in zip(logits.cpu(), draws, strict=True)
        ]
        draw_column = torch.tensor(draws, dtype=torch.float64, device=device)
        return torch.tensor(tokens, device=device) + 1, draw_column

    return Case(
        "sampling",
        f"B={batch} vocabulary={sizes.vocabulary}",
        lambda _: (sample(logits, rows),),
        expected,
        tolerance=0.0,
        num_bytes=logits.nbytes,
        view=compared,
    )


if __name__ == "__main__":
    run_script(cases)
