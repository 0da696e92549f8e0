"""The tensor that holds the KV pages."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from perigee.v1 import worker_pb2
from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import KvFormat, float_format
from services.engine.kv_transfer.agents.region import Region, RegionKind


def allocate_kv_pages(
    num_pages: int, num_layers: int, width: int, kv_format: KvFormat, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Allocates [num_pages, num_layers, 64, row width], zeroed, in one allocation: page-major across layers.

    `width`: values of a token and layer, latent plus rope key; the format says how wide such a row is.

    Writes the memory instead of only reserving it, because a first touch is ten times slower than a read over
    NIXL. Writes zeros, because masked attention multiplies a page's unused slots by zero, and NaN times zero
    is NaN.
    """
    shape = (num_pages, num_layers, PAGE_TOKENS, kv_format.row_width(width))
    return torch.empty(shape, dtype=kv_format.dtype, device=device).fill_(0)


def kv_layout(pages: torch.Tensor, kv_format: KvFormat | None = None) -> worker_pb2.KvLayout:
    """The pool's layout, which workers compare before one reads from the other. `kv_format` None: the float
    format of the pages' dtype.
    """
    num_pages, num_layers, page_tokens, width = pages.shape
    return worker_pb2.KvLayout(
        num_pages=num_pages,
        num_layers=num_layers,
        page_tokens=page_tokens,
        width=width,
        format=(kv_format or float_format(pages.dtype)).name,
    )


def kv_region(pages: torch.Tensor) -> Region:
    """The pool as a region: an entry is one layer page, numbered page * num_layers + layer."""
    num_pages, num_layers, page_tokens, width = pages.shape
    return Region(
        RegionKind.KV,
        pages.data_ptr(),
        page_tokens * width * pages.element_size(),
        num_pages * num_layers,
        device_id=pages.device.index or 0,
        memory_type="VRAM" if pages.is_cuda else "DRAM",
    )


def layer_pages(
    pages: Sequence[int], num_layers: int, first_layer: int, end_layer: int
) -> npt.NDArray[np.int32]:
    """Entry numbers of layers [first_layer, end_layer) of `pages`, page by page: int32 [pages * layers]."""
    layers = np.arange(first_layer, end_layer, dtype=np.int64)
    entries = np.asarray(pages, np.int64)[:, None] * num_layers + layers
    return entries.reshape(-1).astype(np.int32)


def page_crc32(pages: torch.Tensor, page: int, first_layer: int, end_layer: int) -> int:
    """CRC-32 of the bytes of layers [first_layer, end_layer) of one page."""
    view = pages[page, first_layer:end_layer].contiguous().cpu().view(torch.uint8)
    return zlib.crc32(view.numpy().tobytes())
