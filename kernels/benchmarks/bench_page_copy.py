"""Gathering pages of all layers into a buffer and scattering them from one; as many as a prompt has."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.page_copy import gather_pages, scatter_pages
from kernels.reference import page_copy as reference


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """One layer, and all of them."""
    pool = normal(sizes.far_page + 1, sizes.layers, 64, sizes.width, device=device)
    page_ids = torch.randperm(len(pool), device=device)[: -(-sizes.prompt // 64)]
    for layers in (1, sizes.layers):
        num_bytes = 2 * len(page_ids) * layers * 64 * sizes.width * pool.itemsize
        yield _gather(pool, page_ids, layers, num_bytes)
        yield _scatter(pool, page_ids, layers, num_bytes)


def _shape(page_ids: torch.Tensor, layers: int) -> str:
    return f"pages={len(page_ids)} layers={layers}"


def _gather(pool: torch.Tensor, page_ids: torch.Tensor, layers: int, num_bytes: int) -> Case:
    first, end = pool.shape[1] - layers, pool.shape[1]
    return Case(
        "page_gather",
        _shape(page_ids, layers),
        lambda _: (gather_pages(pool, page_ids, first, end),),
        lambda: (reference.gather_pages(pool, page_ids, first, end),),
        tolerance=0.0,
        num_bytes=num_bytes,
    )


def _scatter(pool: torch.Tensor, page_ids: torch.Tensor, layers: int, num_bytes: int) -> Case:
    first = pool.shape[1] - layers
    layer_pages = normal(len(page_ids), layers, *pool.shape[2:], device=pool.device)

    def run(_: int) -> tuple[torch.Tensor, ...]:
        scatter_pages(layer_pages, pool, page_ids, first)
        return ()

    def stored(_: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (pool[page_ids, first:],)

    shape = _shape(page_ids, layers)
    return Case("page_scatter", shape, run, lambda: (layer_pages,), 0.0, num_bytes, view=stored)


if __name__ == "__main__":
    run_script(cases)
