"""Storing new tokens into one layer's pages, at high addresses of a pool of all layers."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import make_angles, normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.latent_store import store_latents
from kernels.reference import latent_store as reference

_EPS = 1e-5


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Tokens at random slots of the last layer, the last token in the last slot of the last page."""
    cos, sin = make_angles(sizes, device)
    pool = torch.zeros(sizes.far_page + 1, sizes.layers, 64, sizes.width, dtype=torch.bfloat16, device=device)
    for tokens in (*sizes.batches, sizes.prompt):
        yield _case(tokens, pool[:, -1], cos, sin, sizes)


def _case(tokens: int, pages: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, sizes: Sizes) -> Case:
    device = pages.device
    num_bytes = 2 * tokens * sizes.width * pages.itemsize
    copies = sizes.copies(num_bytes)
    down = [normal(tokens, sizes.width, device=device) for _ in range(copies)]
    weight = normal(sizes.latent, device=device)
    positions = torch.randint(sizes.max_positions, (tokens,), device=device)
    last = len(pages) * 64 - 1
    slots = torch.cat(
        [torch.randperm(last, device=device)[: tokens - 1], torch.tensor([last], device=device)]
    )

    def run(copy: int) -> tuple[torch.Tensor, ...]:
        store_latents(down[copy], weight, _EPS, positions, slots, cos, sin, pages)
        return ()

    def stored(_: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (pages[slots // 64, slots % 64],)

    def expected() -> tuple[torch.Tensor, ...]:
        out = torch.zeros(1, tokens, sizes.width, device=device)
        places = torch.arange(tokens, device=device)
        reference.store_latents(down[0].float(), weight.float(), _EPS, positions, places, cos, sin, out)
        return (out[0],)

    return Case("latent_store", f"T={tokens}", run, expected, 1e-2, num_bytes, copies=copies, view=stored)


if __name__ == "__main__":
    run_script(cases)
