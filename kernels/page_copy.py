"""Gathers KV pages into one contiguous buffer, and scatters such a buffer into pages."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import require

_BLOCK = 4096


@triton.jit
def page_copy_kernel(
    pages: tl.tensor,
    blocks: tl.tensor,
    page_ids: tl.tensor,
    page_stride: int,
    size: int,
    into_pages: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Part of a page per program; `size` values of each page lie in one piece on either side."""
    index = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * block + tl.arange(0, block)
    inside = lane < size
    page = pages + tl.load(page_ids + index).to(tl.int64) * page_stride + lane
    flat = blocks + index * size + lane
    if into_pages:
        tl.store(page, tl.load(flat, mask=inside), mask=inside)
    else:
        tl.store(flat, tl.load(page, mask=inside), mask=inside)


def gather_pages(pages: Tensor, page_ids: Tensor, first_layer: int, end_layer: int) -> Tensor:
    """Layers [first_layer, end_layer) of the pages `page_ids`, int32 or int64 `[n]`, in their order.

    `pages [P, layers, page_tokens, width]`, contiguous -> `[n, those layers, page_tokens, width]`. Of one
    layer that is a sequence's context, token by token. Offsets are 64-bit.
    """
    layers = pages.shape[1]
    fits = 0 <= first_layer < end_layer <= layers
    require(fits, f"layers {first_layer} to {end_layer} are not within the {layers} of the pages")
    shape = (len(page_ids), end_layer - first_layer, *pages.shape[2:])
    out = torch.empty(shape, dtype=pages.dtype, device=pages.device)
    _copy(pages, out, page_ids, first_layer, into_pages=False)
    return out


def scatter_pages(blocks: Tensor, pages: Tensor, page_ids: Tensor, first_layer: int) -> None:
    """Writes `blocks`, as gather_pages gives them, into the pages `page_ids` from first_layer on.

    No page may be named twice.
    """
    count, layers, *rest = blocks.shape
    fits = count == len(page_ids) and 0 <= first_layer <= pages.shape[1] - layers
    fits = fits and list(pages.shape[2:]) == rest and blocks.dtype == pages.dtype
    require(fits, f"blocks {tuple(blocks.shape)} do not fit {len(page_ids)} pages {tuple(pages.shape[1:])}")
    require(blocks.is_contiguous(), "blocks are not contiguous")
    _copy(pages, blocks, page_ids, first_layer, into_pages=True)


def _copy(pages: Tensor, blocks: Tensor, page_ids: Tensor, first_layer: int, into_pages: bool) -> None:
    require(pages.is_contiguous(), "pages are not contiguous")
    if len(page_ids):
        size = blocks[0].numel()
        page_copy_kernel[(len(page_ids), triton.cdiv(size, _BLOCK))](
            pages[:, first_layer],
            blocks,
            page_ids,
            pages.stride(0),
            size,
            into_pages=into_pages,
            block=_BLOCK,
            num_warps=8,
        )
