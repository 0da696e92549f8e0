"""Copies pages into one contiguous buffer, and back."""

from __future__ import annotations

from torch import Tensor


def gather_pages(pages: Tensor, page_ids: Tensor, first_layer: int, end_layer: int) -> Tensor:
    """Layers [first_layer, end_layer) of `pages [P, layers, 64, width]` -> `[n, those layers, 64, width]`."""
    return pages[page_ids.long(), first_layer:end_layer]


def scatter_pages(layer_pages: Tensor, pages: Tensor, page_ids: Tensor, first_layer: int) -> None:
    """Writes the result of gather_pages into the pages `page_ids`, from first_layer on."""
    pages[page_ids.long(), first_layer : first_layer + layer_pages.shape[1]] = layer_pages
