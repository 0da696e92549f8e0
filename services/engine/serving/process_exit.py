"""Ends a process that may not end by itself."""

from __future__ import annotations

import faulthandler
import os

GONE_S = 9.0
"""A worker that failed is gone after 10 s; up to one of them goes to the end of its server."""


def exit_within(seconds: float) -> None:
    """Ends this process with exit code 1 after that time, if it still runs then, whatever its threads wait
    for, and shows that on standard error.
    """
    # Its clock is a thread without the interpreter: it also works while that shuts down.
    try:
        faulthandler.dump_traceback_later(seconds, exit=True)
    except (AttributeError, ValueError, OSError, RuntimeError):  # standard error may be anything
        faulthandler.dump_traceback_later(seconds, exit=True, file=os.open(os.devnull, os.O_WRONLY))
