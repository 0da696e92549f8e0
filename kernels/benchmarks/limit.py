"""The time limits of a part of the check."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT_S = 465.0
"""Seconds that a process may run: 8 minutes, minus its start."""
ROWS_S = LIMIT_S - 60.0
"""Seconds after which no new row begins: the last one may take a minute."""


@contextmanager
def time_limit(seconds: float = LIMIT_S) -> Iterator[None]:
    """Ends the process with status 1 after so long and prints where it hung: a kernel cannot be
    interrupted.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
