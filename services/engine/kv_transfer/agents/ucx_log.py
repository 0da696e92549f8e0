"""Reads from UCX's log which protocols it chose: UCX reports them nowhere else.

The log goes to an anonymous file of this process instead of stdout; its other lines are passed on to our own
log.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

_VARIABLES = ("UCX_LOG_FILE", "UCX_PROTO_INFO")
_TABLE_MARK = "]   | "
_RULE_MARK = "]   +-"


class UcxLog:
    """Table rows of the chosen protocols since the process started, one line of cells each."""

    def __init__(self) -> None:
        """Opens the anonymous file; UCX writes there if it is loaded inside `captured`."""
        self._file = os.memfd_create("ucx-log")
        self._read = 0
        self._tables: list[str] = []
        self._captures = False

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Points UCX's log here while UCX is loaded, unless the operator has set UCX's log variables.

        Removes the variables afterwards, because a child process could not open the file.
        """
        if any(name in os.environ for name in _VARIABLES):
            yield
            return
        os.environ["UCX_LOG_FILE"] = f"/proc/self/fd/{self._file}"
        os.environ["UCX_PROTO_INFO"] = "*ucp_get*"
        try:
            yield
        finally:
            for name in _VARIABLES:
                os.environ.pop(name, None)
        self._captures = True

    def tables(self) -> list[str]:
        """All table rows so far, oldest first, without borders; empty if the operator redirects the log."""
        if self._captures:
            try:
                self._drain()
            except OSError as error:
                logger.warning("UCX's log cannot be read: %s", error)
        return self._tables

    def close(self) -> None:
        """Passes on the remaining lines. The file stays open: UCX may write to it until the process ends."""
        self.tables()

    def _drain(self) -> None:
        _flush()
        text = b""
        while chunk := os.pread(self._file, 1 << 16, self._read + len(text)):
            text += chunk
        # UCX may be in the middle of a line: the rest of it is read next time.
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if _TABLE_MARK in line:
                self._tables.append(line.split(_TABLE_MARK, 1)[1])
            elif _RULE_MARK not in line:
                logger.warning("ucx: %s", line)


def _flush() -> None:
    """Empties UCX's log buffer, with the function that the loaded copy of UCX exports for it."""
    for path in loaded_libraries(Path("/proc/self/maps").read_text(errors="replace")):
        try:
            # RTLD_NOLOAD: never loads a second copy, even if the file was replaced since.
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        except OSError:
            continue  # replaced and loaded under another name: lines that UCX has not flushed are not read
        if hasattr(library, "ucs_log_flush"):
            library.ucs_log_flush()


def loaded_libraries(maps: str) -> list[str]:
    """Paths of UCX's libraries in the text of /proc/self/maps, each once, even if the file is gone."""
    places = [line.split(maxsplit=5)[5] for line in maps.splitlines() if "/libucs" in line]
    return list(dict.fromkeys(place.removesuffix(" (deleted)") for place in places))
