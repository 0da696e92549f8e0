"""The time that one part of the check may take."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT_S = 465.0
"""The time of a process: 8 minutes, less its start."""
LAST_ROW_S = 60.0
"""What a row may take that was begun when no time for new ones was left."""


@contextmanager
def time_limit(seconds: float = LIMIT_S) -> Iterator[None]:
    """Ends the process with status 1 after so long, saying where it hung: a kernel cannot be interrupted."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
