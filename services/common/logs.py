"""Logs on stderr: key-value lines for people, JSON for machines."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

_SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logs(level: str = "INFO", stream: TextIO | None = None, **bound: str) -> None:
    """Sets up structlog and the standard library's logging alike; call once, at the start of a process.

    `level` is a name such as INFO. Lines are JSON unless `stream` (stderr by default) is a terminal. `bound`
    stands on every line, e.g. role="prefill". Raises ValueError for an unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}")
    out = stream if stream is not None else sys.stderr
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


def _renderers(terminal: bool) -> list[Any]:
    if terminal:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
