"""Announcements of layer pages that are written."""

from __future__ import annotations

from torch import Tensor

from services.engine.kv_cache.kv_pages import page_crc32
from services.prefill.events import Ready
from services.prefill.job import Job


class Announcer:
    """Tells readers which layer pages are written, a fraction of them with checksums. Engine thread only."""

    def __init__(self, kv_pages: Tensor, checksum_fraction: float) -> None:
        """`kv_pages` is `[num_pages, num_layers, 64, width]`; `checksum_fraction`, 0 to 1: of all
        announcements.
        """
        self.num_layers = kv_pages.shape[1]
        self._kv_pages = kv_pages
        self._fraction = checksum_fraction
        self._announcements = 0

    def announce(self, job: Job, first_page: int, end_page: int, first_layer: int, end_layer: int) -> None:
        """Announces pages [first_page, end_page) of layers [first_layer, end_layer), without those that the
        reader has cached.
        """
        first_page = max(first_page, job.reader_cached_pages)
        if first_page >= end_page:
            return
        self._announcements += 1
        crc32: tuple[int, ...] = ()
        if int(self._announcements * self._fraction) != int((self._announcements - 1) * self._fraction):
            crc32 = tuple(
                page_crc32(self._kv_pages, page, first_layer, end_layer)
                for page in job.pages[first_page:end_page]
            )
        job.emit(Ready(first_page, end_page - first_page, first_layer, end_layer, crc32))
