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
    layer_pages: tl.tensor,
    page_ids: tl.tensor,
    page_stride: int,
    size: int,
    into_pages: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Part of a page per program; the `size` values of each page are contiguous on both sides."""
    index = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * block + tl.arange(0, block)
    inside = lane < size
    page = pages + tl.load(page_ids + index).to(tl.int64) * page_stride + lane
    flat = layer_pages + index * size + lane
    if into_pages:
        tl.store(page, tl.load(flat, mask=inside), mask=inside)
    else:
        tl.store(flat, tl.load(page, mask=inside), mask=inside)


def gather_pages(pages: Tensor, page_ids: Tensor, first_layer: int, end_layer: int) -> Tensor:
    """Layers [first_layer, end_layer) of the pages `page_ids`, int32 or int64 `[n]`, in their order.

    `pages [P, layers, page_tokens, width]`, contiguous -> `[n, those layers, page_tokens, width]`. For one
    layer this is a sequence's context, token by token. Offsets are 64-bit.
    """
    layers = pages.shape[1]
    fits = 0 <= first_layer < end_layer <= layers
    require(fits, f"layers {first_layer} to {end_layer} are not within the {layers} of the pages")
    shape = (len(page_ids), end_layer - first_layer, *pages.shape[2:])
    out = torch.empty(shape, dtype=pages.dtype, device=pages.device)
    _copy(pages, out, page_ids, first_layer, into_pages=False)
    return out


def scatter_pages(layer_pages: Tensor, pages: Tensor, page_ids: Tensor, first_layer: int) -> None:
    """Writes `layer_pages`, as gather_pages returns them, into the pages `page_ids` from first_layer on.

    `page_ids` must be distinct.
    """
    count, layers, *rest = layer_pages.shape
    fits = count == len(page_ids) and 0 <= first_layer <= pages.shape[1] - layers
    fits = fits and list(pages.shape[2:]) == rest and layer_pages.dtype == pages.dtype
    require(
        fits,
        f"layer pages {tuple(layer_pages.shape)} do not fit {len(page_ids)} pages {tuple(pages.shape[1:])}",
    )
    require(layer_pages.is_contiguous(), "layer pages are not contiguous")
    _copy(pages, layer_pages, page_ids, first_layer, into_pages=True)


def _copy(pages: Tensor, layer_pages: Tensor, page_ids: Tensor, first_layer: int, into_pages: bool) -> None:
    require(pages.is_contiguous(), "pages are not contiguous")
    if len(page_ids):
        size = layer_pages[0].numel()
        page_copy_kernel[(len(page_ids), triton.cdiv(size, _BLOCK))](
            pages[:, first_layer],
            layer_pages,
            page_ids,
            pages.stride(0),
            size,
            into_pages=into_pages,
            block=_BLOCK,
            num_warps=8,
        )
