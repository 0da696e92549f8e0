"""Copies of KV pages between ranks that each have pages of their own."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, distributed

from services.engine.host_copy import to_device
from services.engine.kv_transfer.shared_transfer import reading_rank

_PAGES_AT_ONCE = 64


class PageSpread(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An order to all ranks to copy `pages` from the ranks that hold them to all others.

    A page is held by its `reading_rank` among the first `holders` ranks.
    """

    pages: tuple[int, ...]
    holders: int

    def run(self, kv_pages: Tensor, rank: int) -> None:
        """Copies the pages; all ranks must run the same order. At most 64 pages are buffered at a time."""
        for holder in range(self.holders):
            pages = [page for page in self.pages if reading_rank(page, self.holders) == holder]
            for start in range(0, len(pages), _PAGES_AT_ONCE):
                ids = to_device(pages[start : start + _PAGES_AT_ONCE], torch.int64, kv_pages.device)
                held = kv_pages[ids]
                distributed.broadcast(held, holder)
                if rank != holder:
                    kv_pages[ids] = held
        if self.holders == 1:
            # Rank 0 alone knows when a peer's read into these pages begins, on every rank: so it must not
            # finish before the others.
            distributed.all_reduce(torch.zeros(1, device=kv_pages.device))
