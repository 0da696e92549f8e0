"""Notices that the file of API keys has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from services.common.errors import ConfigError
from services.gateway.access.key_file import KeyFile
from services.gateway.access.key_record import KeyRecord

log = structlog.get_logger()

_EVERY_S = 1.0


class KeyWatch:
    """Looks at the file once a second, and reads it where its time, size or inode has changed.

    A file that cannot be read, or is not valid, changes nothing: the keys of the last valid one stay.
    """

    def __init__(self, path: Path, apply: Callable[[tuple[KeyRecord, ...]], None]) -> None:
        """`apply` takes all keys of a changed file."""
        self._file = KeyFile(path)
        self._apply = apply
        self._seen: object = None

    def start(self) -> None:
        """Reads the file for the first time. Raises ConfigError if it is not valid."""
        self._seen = self._signature()
        self._apply(self._file.read())

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            self.look()

    def look(self) -> None:
        """Reads the file if it has changed since the last look."""
        now = self._signature()
        if now == self._seen:
            return
        self._seen = now
        try:
            records = self._file.read()
        except ConfigError as error:
            log.error("the keys did not change", detail=error.message)
            return
        self._apply(records)
        log.info("keys changed", keys=len(records))

    def _signature(self) -> object:
        """Differs where the file may differ. What cannot be looked at is like a file of its own."""
        try:
            found = self._file.path.stat()
        except OSError as error:
            return error.errno
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
