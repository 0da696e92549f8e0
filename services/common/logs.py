"""Logs on stderr: key-value lines for people, JSON for machines."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Any, TextIO, cast

import structlog

_SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


class LossyStream:
    """A text stream to write to that never raises: what cannot be written is lost.

    A log goes to a file on a disk that is full, to a pipe whose reader has gone, or nowhere at all (None): no
    reason to stop whatever was being logged.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes all of it, or loses it."""
        # ValueError: the stream is closed, or cannot encode the text.
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Does what `write` does."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        """True if the stream is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False


def standard_error() -> TextIO:
    """This process's standard error as a LossyStream."""
    return cast(TextIO, LossyStream(sys.stderr))


def configure_logs(level: str = "INFO", stream: TextIO | None = None, **bound: str) -> None:
    """Sets up structlog and the standard library's logging alike; call once, at the start of a process.

    `level` is a name such as INFO. Lines are JSON unless `stream` (stderr by default) is a terminal; one that
    cannot be written is lost. `bound` stands on every line, e.g. role="prefill". Raises ValueError for an
    unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}")
    _open_standard_descriptors()
    out = standard_error() if stream is None else cast(TextIO, LossyStream(stream))
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=list(_SHARED),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(out.isatty())],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak up from WARNING on: their INFO is about their own insides.
    root.setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[*_SHARED, *_renderers(out.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)


def _open_standard_descriptors() -> None:
    """Opens those that are closed on /dev/null, so that no socket takes a number that libraries print to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _renderers(terminal: bool) -> list[Any]:
    if terminal:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
