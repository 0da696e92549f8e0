"""The layer pages of a prompt that a prefill worker grants and announces: each one once, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perigee.v1 import prefill_pb2
from services.common.errors import TransferFailed
from services.decode.prompts.fetch import FetchOrder
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.peers.granted_pages import check_granted


@dataclass(frozen=True)
class Announced:
    """Layers [first_layer, end_layer) of the worker's pages `remote`, for the own pages `local`."""

    local: tuple[int, ...]
    remote: tuple[int, ...]
    first_layer: int
    end_layer: int


class Announcements:
    """Checks the messages of one Prefill call. Every error is a TransferFailed that names the `owner`."""

    def __init__(self, order: FetchOrder, num_layers: int, offer: Offer, owner: str) -> None:
        self._order = order
        self._num_layers = num_layers
        self._offer = offer
        self._owner = owner
        self._remote: tuple[int, ...] | None = None
        self._missing = np.ones((len(order.pages), num_layers), dtype=np.bool_)
        self._missing_count = self._missing.size

    @property
    def is_complete(self) -> bool:
        """Whether every layer page has been announced."""
        return not self._missing_count

    def grant(self, pages: Sequence[int]) -> None:
        """Takes the worker's pages. Raises if there are too few or too many, if one lies outside the offer,
        or at a second grant.
        """
        if self._remote is not None:
            raise TransferFailed(f"{self._owner} admitted the prompt twice")
        if len(pages) != len(self._order.pages):
            raise TransferFailed(
                f"{self._owner} granted {len(pages)} pages; {len(self._order.pages)} were asked for"
            )
        check_granted(self._offer, RegionKind.KV, pages, self._num_layers, self._owner)
        self._remote = tuple(pages)

    def take(self, ready: prefill_pb2.PagesReady) -> Announced:
        """The pages to read. Raises for any that was not asked for or is announced again."""
        first = ready.first_page - self._order.cached_pages
        end = first + ready.page_count
        in_prompt = 0 <= first < end <= len(self._order.pages)
        in_model = ready.first_layer < ready.end_layer <= self._num_layers
        if self._remote is None or not in_prompt or not in_model:
            raise TransferFailed(
                f"{self._owner} announced pages that were not asked for: pages {ready.first_page} to "
                f"{ready.first_page + ready.page_count} of layers {ready.first_layer} to {ready.end_layer}"
            )
        block = self._missing[first:end, ready.first_layer : ready.end_layer]
        if not block.all():
            raise TransferFailed(f"{self._owner} announced page {ready.first_page} or a later one twice")
        self._missing_count -= block.size
        block[:] = False
        return Announced(
            self._order.pages[first:end], self._remote[first:end], ready.first_layer, ready.end_layer
        )
