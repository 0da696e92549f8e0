"""Media given by URL, fetched before anything is made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.common.errors import InvalidRequest
from services.gateway.download.downloader import Allowance, Downloader
from services.gateway.pipeline.images import ImageSource
from services.gateway.pipeline.media import MediaLimits, MediaSource, check_counts


class RemoteMedia:
    """`total_bytes`: what all fetched files of one request may have together."""

    def __init__(self, downloader: Downloader, limits: MediaLimits, total_bytes: int) -> None:
        self._downloader = downloader
        self.limits = limits
        self._total_bytes = total_bytes

    async def fetched(self, sources: Sequence[MediaSource]) -> tuple[MediaSource, ...]:
        """The same, with the file in place of each URL of http or https; each URL is fetched once.

        Raises InvalidRequest or UnsupportedValue naming the medium's field; the first failure ends all.
        """
        check_counts(sources, self.limits)
        wanted = {source.source: source for source in reversed(sources) if _is_remote(source.source)}
        if not wanted:
            return tuple(sources)
        allowance = Allowance(self._total_bytes)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    url: group.create_task(self._fetch(source, allowance)) for url, source in wanted.items()
                }
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return tuple(
            replace(source, source=tasks[source.source].result()) if source.source in tasks else source
            for source in sources
        )

    async def _fetch(self, source: MediaSource, allowance: Allowance) -> bytes:
        limits = self.limits
        limit = limits.images.num_bytes if isinstance(source, ImageSource) else limits.videos.num_bytes
        try:
            return await self._downloader.fetch(str(source.source), limit, allowance)
        except InvalidRequest as error:
            raise type(error)(error.message, source.param) from error


def _is_remote(source: bytes | str) -> bool:
    return isinstance(source, str) and source[:8].lower().startswith(("http://", "https://"))
