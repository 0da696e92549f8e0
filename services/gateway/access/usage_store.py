"""Finds the counts of each API key: in memory of this process, or in files that several processes map."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from services.gateway.access.usage import ROW_BYTES, Usage


class UsageStore:
    """One Usage per label. The files are in the directory where the processes' sockets are, which goes with
    the gateway.
    """

    def __init__(
        self,
        directory: Path | None = None,
        own: int = 0,
        processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`directory`: None: nothing is shared. `own`: this process's number, below `processes`."""
        self._directory = directory
        self._own = own
        self._bytes = ROW_BYTES * processes
        self._clock = clock
        # As long as a request of the key runs, its counts must stay the same ones.
        self._known: WeakValueDictionary[str, Usage] = WeakValueDictionary()

    def of(self, label: str) -> Usage:
        """Returns the counts of the key with that label."""
        usage = self._known.get(label)
        if usage is None:
            if self._directory is None:
                usage = Usage(clock=self._clock)
            else:
                usage = Usage(memoryview(self._mapped(self._directory / label)), self._own, self._clock)
            self._known[label] = usage
        return usage

    def _mapped(self, path: Path) -> mmap.mmap:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, self._bytes)
            return mmap.mmap(handle, self._bytes)
        finally:
            os.close(handle)
