"""Views of single KV pages, kept where they can be: slicing a tensor costs as much as multiplying a small
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import FLOAT32, KvFormat, float_format


@dataclass(frozen=True)
class PageView:
    """One layer page: `keys [64, latent + rope]`, and `values [64, latent]`, their first columns. Both are in
    the pool's memory if its format keeps the values in place.
    """

    keys: Tensor
    values: Tensor

    def summable_values(self, used: int) -> Tensor:
        """`values` in float32, zero in the slots from `used` on.

        Unwritten slots may hold NaN, and zero times NaN is NaN.
        """
        if used >= PAGE_TOKENS:
            return self.values.float()
        # In float32 a copy of whole rows: with the row stride of a full page they are multiplied the same
        # way.
        narrow = self.values.dtype != torch.float32
        values = self.values.float() if narrow else self.keys.clone()[:, : self.values.shape[1]]
        values[used:] = 0
        return values


class PageViews:
    """The pages of a pool `[num_pages, num_layers, 64, row width]` as views, by layer and page.

    `kv_format` None: the float format of the pages' dtype.
    """

    def __init__(self, kv_pages: Tensor, latent_dim: int, kv_format: KvFormat | None = None) -> None:
        self.kv_pages = kv_pages
        self.kv_format = kv_format or float_format(kv_pages.dtype)
        self.in_float32 = self.kv_format == FLOAT32
        self._in_place = self.kv_format.in_place
        self._latent_dim = latent_dim
        self._views: list[dict[int, PageView]] = [{} for _ in range(kv_pages.shape[1])]

    def view(self, layer: int, page: int) -> PageView:
        """The view of `page` in `layer`; where the values are not in place, of a copy as they are now."""
        if not self._in_place:
            keys = self.kv_format.load(self.kv_pages[page, layer])
            return PageView(keys, keys[:, : self._latent_dim])
        views = self._views[layer]
        found = views.get(page)
        if found is None:
            keys = self.kv_pages[page, layer]
            found = views[page] = PageView(keys, keys[:, : self._latent_dim])
        return found
