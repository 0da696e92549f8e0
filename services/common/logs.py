"""Sets up logs on stderr: key-value lines on a terminal, JSON elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from typing import Any, TextIO, cast

import structlog

from services.common.errors import InvalidRequest

_SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


_MOST_SHOWN = 8
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def raised_at(error: BaseException) -> str:
    """The types of an exception and of its causes, and where each was raised.

    A traceback without the texts of exceptions, which may quote what a client sent.
    """
    shown: list[str] = []
    left = [error]
    while left and len(shown) < _MOST_SHOWN:
        each = left.pop(0)
        shown.append("".join([f"{type(each).__qualname__}\n", *traceback.format_tb(each.__traceback__)]))
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        left += [cause] if cause is not None else []
        left += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
    return "".join(shown)


class LossyStream:
    """A writable text stream that never raises: text that cannot be written is lost.

    The disk may be full, a pipe's reader may have gone, or there is no stream (None). None of these may stop
    the code that logs.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text or loses it; returns its length."""
        # ValueError: the stream is closed, or cannot encode the text.
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream; ignores errors, as `write` does."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False


def standard_error() -> TextIO:
    """This process's standard error as a LossyStream."""
    return cast(TextIO, LossyStream(sys.stderr))


def configure_logs(level: str = "INFO", stream: TextIO | None = None, **bound: str) -> None:
    """Configures structlog and the standard library's logging. Call once, at the start of a process.

    `level` is a name such as INFO. Lines are JSON unless `stream` (stderr by default) is a terminal; lines
    that cannot be written are lost. `bound` is added to every line, e.g. role="prefill". Raises
    InvalidRequest for an unknown level.
    """
    number = _number(level_name(level))
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
    root.setLevel(_of_libraries(number))
    structlog.configure(
        processors=[*_SHARED, *_renderers(out.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # One write a line: lines of processes that share a stderr do not mix.
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)


def level_name(text: str) -> str:
    """The level's name as logs have it. Raises InvalidRequest for an unknown one."""
    name = text.strip().upper()
    if name not in _LEVELS:
        raise InvalidRequest(f"unknown log level {text!r}; use {', '.join(_LEVELS)}", "level")
    return name


def set_log_level(level: str) -> None:
    """Changes the level of a process whose logs are configured. Raises InvalidRequest for an unknown one.

    A logger that somebody keeps, as the result of `bind`, keeps its level.
    """
    number = _number(level_name(level))
    logging.getLogger().setLevel(_of_libraries(number))
    structlog.configure(
        **structlog.get_config() | {"wrapper_class": structlog.make_filtering_bound_logger(number)}
    )


def _number(name: str) -> int:
    return logging.getLevelNamesMapping()[name]


def _of_libraries(number: int) -> int:
    """Libraries log from WARNING on: their INFO lines concern only their internals."""
    return max(number, logging.WARNING)


def _open_standard_descriptors() -> None:
    """Opens closed standard descriptors on /dev/null: no socket may get a number that libraries print to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _renderers(terminal: bool) -> list[Any]:
    if terminal:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
