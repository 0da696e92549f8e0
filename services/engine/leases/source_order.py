"""An order to read cached pages from another worker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceOrder:
    """Read the cached pages with these hashes, consecutive ones of a prompt, from `address` into `pages`.

    The pages belong to the read until it reports its end.
    """

    address: str
    request_id: str
    hashes: tuple[bytes, ...]
    pages: tuple[int, ...]
