"""Checks the pages that an owner grants against the memory that it has offered."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import TransferFailed
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import RegionKind


def check_granted(
    offer: Offer, kind: RegionKind, pages: Sequence[int], entries_per_page: int, owner: str
) -> None:
    """Raises TransferFailed, which names the `owner`, unless the offer's region of this kind has all these
    pages, of `entries_per_page` entries each.
    """
    region = offer.region(kind)
    held = 0 if region is None else region.entry_count // entries_per_page
    outside = next((page for page in pages if not 0 <= page < held), None)
    if outside is not None:
        raise TransferFailed(f"{owner} granted {kind.value} page {outside}; its offer has {held} pages")
