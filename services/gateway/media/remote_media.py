"""Media given by URL, fetched before anything is made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.common.errors import InvalidRequest
from services.gateway.media.download.downloader import Allowance, Downloader
from services.gateway.media.images import ImageSource
from services.gateway.media.request_media import MediaLimits, MediaSource, check_sources


class RemoteMedia:
    """`total_bytes`: what all fetched files of one request may have together."""

    def __init__(self, downloader: Downloader, limits: MediaLimits, total_bytes: int) -> None:
        self._downloader = downloader
        self.limits = limits
        self._total_bytes = total_bytes

    async def fetch(self, sources: Sequence[MediaSource]) -> tuple[MediaSource, ...]:
        """Returns the sources with each http or https URL replaced by its file; fetches each URL once.

        Raises InvalidRequest or UnsupportedValue naming the medium's field; the first failure ends all.
        """
        check_sources(sources, self.limits)
        wanted: dict[str, list[MediaSource]] = {}
        for source in sources:
            if isinstance(source.source, str) and _is_remote(source.source):
                wanted.setdefault(source.source, []).append(source)
        if not wanted:
            return tuple(sources)
        allowance = Allowance(self._total_bytes)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    url: group.create_task(self._fetch(url, uses, allowance)) for url, uses in wanted.items()
                }
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        files = {url: task.result() for url, task in tasks.items()}
        return tuple(
            replace(source, source=files[source.source]) if source.source in files else source
            for source in sources
        )

    async def _fetch(self, url: str, uses: Sequence[MediaSource], allowance: Allowance) -> bytes:
        """Downloads at most the bytes that any use may have; each use checks its own bound later."""
        limit = max(map(self._most_bytes, uses))
        try:
            return await self._downloader.fetch(url, limit, allowance)
        except InvalidRequest as error:
            raise type(error)(error.message, uses[0].param) from error

    def _most_bytes(self, source: MediaSource) -> int:
        kind = self.limits.images if isinstance(source, ImageSource) else self.limits.videos
        return kind.num_bytes


def _is_remote(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))
